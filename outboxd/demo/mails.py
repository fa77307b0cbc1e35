"""What the sample shop writes: real-looking mails in several languages, some with attachments."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from outboxd.client import Attachment, Email

SENDER: Final = "Librairie du Port <bonjour@shop.example>"
PEOPLE: Final = (
    ("Ada Lovelace", "en"), ("José Álvarez", "es"), ("Zoë Brontë", "en"), ("Łukasz Żółć", "pl"), ("Jürgen Weiß", "de"),
    ("Élodie Çelik", "fr"), ("Søren Ångström", "de"), ("Renée Noël", "fr"), ("Nguyễn Thị Hà", "en"), ("Ιωάννης Παππάς", "en"),
    ("Анна Ковальчук", "pl"), ("田中 花子", "ja"), ("김민준", "en"), ("María Núñez", "es"), ("François L'Écuyer", "fr"),
    ("Björk Guðmundsdóttir", "en"),
)  # fmt: skip
TEXTS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "confirmation": {
        "en": ("Your order {order} is confirmed", "Thank you, {name}! We are packing {item} for you."),
        "fr": ("Votre commande {order} est confirmée", "Merci, {name} ! Nous préparons {item} pour vous."),
        "de": ("Ihre Bestellung {order} ist bestätigt", "Danke, {name}! Wir packen {item} für Sie ein."),
        "es": ("Tu pedido {order} está confirmado", "¡Gracias, {name}! Estamos preparando {item}."),
        "pl": (
            "Twoje zamówienie {order} jest potwierdzone",
            "Dziękujemy, {name}! Pakujemy dla Ciebie {item}.",
        ),
        "ja": ("ご注文 {order} を承りました", "{name} 様、ありがとうございます。{item} をお送りします。"),
    },
    "invoice": {
        "en": ("Invoice for order {order}", "Dear {name}, you find the invoice for {item} attached."),
        "fr": ("Facture de la commande {order}", "Bonjour {name}, voici la facture pour {item}."),
        "de": ("Rechnung zu Bestellung {order}", "Guten Tag {name}, anbei die Rechnung für {item}."),
        "es": ("Factura del pedido {order}", "Hola {name}, adjuntamos la factura de {item}."),
        "pl": ("Faktura do zamówienia {order}", "Dzień dobry {name}, w załączniku faktura za {item}."),
        "ja": ("ご注文 {order} の請求書", "{name} 様、{item} の請求書を添付いたします。"),
    },
    "reset": {
        "en": ("Reset your password", "{name}, somebody asked for a new password. Was it you?"),
        "fr": ("Réinitialisez votre mot de passe", "{name}, quelqu'un a demandé un nouveau mot de passe."),
        "de": ("Passwort zurücksetzen", "{name}, jemand hat ein neues Passwort angefordert. Waren Sie das?"),
        "es": ("Restablece tu contraseña", "{name}, alguien ha pedido una contraseña nueva."),
        "pl": ("Zresetuj hasło", "{name}, ktoś poprosił o nowe hasło."),
        "ja": ("パスワードの再設定", "{name} 様、パスワード再設定のご依頼がありました。"),
    },
}
ITEMS: Final = (
    "Les Misérables",
    "Das Schloß",
    "Don Quijote",
    "Pan Tadeusz",
    "源氏物語",
    "Middlemarch",
    "Wuthering Heights",
)
PAGE: Final = """<div style="font-family:Georgia,serif;max-width:520px;margin:24px auto;color:#222">
<h1 style="color:#2a4d8f;font-size:22px">{subject}</h1><p style="font-size:16px;line-height:1.5">{text}</p>
<p><a href="https://shop.example/orders/{order}" style="background:#2a4d8f;color:#fff;padding:10px 18px;border-radius:6px;text-decoration:none">{order}</a></p>
<p style="color:#888;font-size:12px">Librairie du Port · 3 quai des Brumes · <img src="https://tracker.example/p.gif" alt=""></p></div>"""
PDF: Final = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


@dataclass(frozen=True, slots=True)
class Order:
    """One order and the mail that belongs to it."""

    number: str
    customer: str
    item: str
    type: str
    email: Email


def order(n: int, dice: random.Random, *, fault: str | None = None) -> Order:
    """Order number `n`; `fault` addresses its mail to one of the local Resend's faults."""
    name, language = PEOPLE[n % len(PEOPLE)]
    kind = dice.choices(("confirmation", "invoice", "reset"), (6, 3, 1))[0]
    number, item = f"LP-{10_000 + n}", dice.choice(ITEMS)
    subject, text = (part.format(order=number, name=name, item=item) for part in TEXTS[kind][language])
    local = fault or f"customer{n}"
    email = Email(
        from_=SENDER,
        to=f"{name} <{local}@reader.example>" if fault is None else f"{local}@reader.example",
        subject=subject,
        text=text,
        html=PAGE.format(subject=subject, text=text, order=number),
        attachments=[Attachment(f"{number}.pdf", PDF, "application/pdf")] if kind == "invoice" else [],
        tags={"order": number},
    )
    return Order(number, name, item, kind, email)
