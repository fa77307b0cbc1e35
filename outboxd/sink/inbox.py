"""The inbox: what was accepted, for a person with a browser.

Mails are strangers' text: everything is escaped by one function, and HTML is shown only inside a sandboxed frame
whose own answer forbids scripts, forms and every remote request.
"""

import base64
import binascii
import html
from datetime import UTC, datetime
from importlib.resources import files
from string import Template
from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from outboxd.sink.provider import Kept, Provider
from outboxd.sink.validate import bare, listed

PAGE: Final = 50  # emails on one page
KB: Final = 1024  # bytes
PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
MAIL_POLICY: Final = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'"
)
SAFE: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
ASSETS: Final = {"inbox.css": "text/css; charset=utf-8", "inbox.js": "text/javascript; charset=utf-8"}


def routes(provider: Provider) -> list[Route]:
    """The pages over this provider's mails."""

    async def index(request: Request) -> Response:
        return _page(
            _index(provider, request.query_params.get("q", ""), _number(request.query_params.get("page")))
        )

    async def detail(request: Request) -> Response:
        kept = provider.inbox.get(request.path_params["id"])
        return _page(_detail(kept)) if kept else _page(_missing(), 404)

    async def mail(request: Request) -> Response:
        kept = provider.inbox.get(request.path_params["id"])
        headers = SAFE | {"Content-Security-Policy": MAIL_POLICY}
        return Response(
            _mail(kept.email) if kept else "", 200 if kept else 404, headers, "text/html; charset=utf-8"
        )

    async def attachment(request: Request) -> Response:
        kept = provider.inbox.get(request.path_params["id"])
        found = listed(kept.email.get("attachments", [])) if kept else []
        number = request.path_params["number"]
        if number >= len(found):
            return Response("not found", 404)
        name = quote(str(found[number].get("filename", "attachment")))
        headers = SAFE | {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
        return Response(_content(found[number]), 200, headers, "application/octet-stream")

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ASSETS:
            return Response("not found", 404)
        return Response(_file(name), 200, SAFE, ASSETS[name])

    return [
        Route("/", index),
        Route("/inbox/{id}", detail),
        Route("/inbox/{id}/html", mail),
        Route("/inbox/{id}/attachments/{number:int}", attachment),
        Route("/pages/{name}", asset),
    ]


def shown(value: object) -> str:
    """Text of a stranger for a page."""
    return html.escape(
        "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in str(value)), quote=True
    )


def _page(body: str, status: int = 200) -> Response:
    text = Template(_file("page.html")).substitute(body=body)
    return Response(text, status, SAFE | {"Content-Security-Policy": PAGE_POLICY}, "text/html; charset=utf-8")


def _index(provider: Provider, search: str, page: int) -> str:
    kept = [one for one in reversed(list(provider.inbox.values())) if _fits(one, search.lower())]
    rows = "".join(_row(one) for one in kept[page * PAGE : (page + 1) * PAGE])
    figures = provider.summary()
    verdicts = figures["verdicts"]
    assert isinstance(verdicts, dict)
    refused = sum(
        times for name, times in verdicts.items() if name in {"refused", "fault", "conflict", "in_flight"}
    )
    return Template(_file("index.html")).substitute(
        accepted=figures["accepted"],
        replayed=verdicts.get("replay", 0),
        limited=verdicts.get("limited", 0),
        refused=refused,
        duplicates=figures["duplicates"],
        search=shown(search),
        rows=rows or '<li class="empty">No mail here yet.</li>',
        pager=_pager(len(kept), page, search),
    )


def _row(kept: Kept) -> str:
    email = kept.email
    clips = len(listed(email.get("attachments", [])))
    names = ", ".join(_name(entry) for entry in listed(email.get("to", [])))
    addresses = ", ".join(bare(str(entry)) for entry in listed(email.get("to", [])))
    return Template(_file("row.html")).substitute(
        id=shown(kept.provider_id),
        initial=shown(_name((listed(email.get("to", "?")) or ["?"])[0])[:1].upper()),
        hue=sum(map(ord, str(email.get("to", "")))) % 12,
        name=shown(names),
        address=shown(addresses if addresses != names else ""),
        subject=shown(email.get("subject", "(template)")),
        preview=shown(" ".join(str(email.get("text", "")).split())[:140]),
        clips=f'<span class="clip" title="attachments">{clips} file{"s" if clips > 1 else ""}</span>'
        if clips
        else "",
        asks=f'<span class="asks" title="asked more than once, accepted once">{kept.asks} asks</span>'
        if kept.asks > 1
        else "",
        time=_clock(kept.at),
    )


def _detail(kept: Kept) -> str:
    email = kept.email
    envelope: list[tuple[str, Any]] = [
        (name, email[name]) for name in ("from", "to", "cc", "bcc", "reply_to") if name in email
    ]
    envelope += [("time", _clock(kept.at))]
    request: list[tuple[str, Any]] = [("id", kept.provider_id), ("key", kept.key), ("asks", kept.asks)]
    request += list(email.get("headers", {}).items())
    request += [(f"tag {tag.get('name')}", tag.get("value")) for tag in listed(email.get("tags", []))]
    base = f"/inbox/{shown(kept.provider_id)}"
    frame = f'<h2>HTML</h2><iframe sandbox="" src="{base}/html" title="HTML part"></iframe>'
    text = f"<h2>Plain text</h2><pre>{shown(email.get('text'))}</pre>"
    clips = "".join(
        f'<a class="attachment" href="{base}/attachments/{number}">{shown(item.get("filename", "attachment"))}'
        f"<small>{_size(_content(item))}</small></a>"
        for number, item in enumerate(listed(email.get("attachments", [])))
    )
    return Template(_file("detail.html")).substitute(
        subject=shown(email.get("subject", "(template)")),
        envelope=_fields(envelope),
        request=_fields(request),
        frame=frame if email.get("html") else "",
        text=text if email.get("text") else "",
        attachments=f'<div class="attachments">{clips}</div>' if clips else "",
    )


def _fields(fields: list[tuple[str, Any]]) -> str:
    return "".join(f"<dt>{shown(name)}</dt><dd>{shown(_joined(value))}</dd>" for name, value in fields)


def _missing() -> str:
    return (
        '<main class="reader"><a class="back" href="/">&larr; Inbox</a><h1>This mail is not here.</h1></main>'
    )


def _mail(email: dict[str, Any]) -> str:
    """The HTML part with its inline images in place."""
    text = str(email.get("html", ""))
    for item in listed(email.get("attachments", [])):
        if item.get("content_id"):
            kind = str(item.get("content_type", "image/png"))
            data = base64.b64encode(_content(item)).decode()
            text = text.replace(f"cid:{item['content_id']}", f"data:{shown(kind)};base64,{data}")
    return text


def _content(item: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(str(item.get("content", "")))
    except (binascii.Error, ValueError):
        return b""


def _pager(total: int, page: int, search: str) -> str:
    links = []
    for label, target in (("&larr; newer", page - 1), ("older &rarr;", page + 1)):
        if 0 <= target * PAGE < total and target >= 0:
            links.append(f'<a href="/?page={target}&amp;q={quote(search)}">{label}</a>')
    return "".join(links)


def _fits(kept: Kept, search: str) -> bool:
    email = kept.email
    return search in f"{email.get('subject', '')} {email.get('from', '')} {email.get('to', '')}".lower()


def _name(entry: object) -> str:
    text = str(entry)
    return text.partition("<")[0].strip().strip('"') or bare(text)


def _joined(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _size(content: bytes) -> str:
    return f"{len(content)} B" if len(content) < KB else f"{len(content) / KB:,.0f} KB"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S")


def _number(text: str | None) -> int:
    return min(int(text), 100_000) if text and text.isdigit() else 0


def _file(name: str) -> str:
    return (files("outboxd.sink") / "pages" / name).read_text("utf-8")
