"""Addresses: taken apart, normalised, or refused with a reason."""

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st

from outboxd.core.address import AddressError, domain, normalise, sender_domain, split, to_ascii


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("ada@reader.example", "", "ada@reader.example"),
        ("  ada@reader.example ", "", "ada@reader.example"),
        ("<ada@reader.example>", "", "ada@reader.example"),
        ("Ada <ada@reader.example>", "Ada", "ada@reader.example"),
        ("Ada<ada@reader.example>", "Ada", "ada@reader.example"),
        ("Ada Lovelace  <Ada+x@Reader.example>", "Ada Lovelace", "Ada+x@Reader.example"),
        ("Société Générale <a@x.example>", "Société Générale", "a@x.example"),
        ("株式会社 <a@x.example>", "株式会社", "a@x.example"),
        ("Dupont, Jean <a@x.example>", "Dupont, Jean", "a@x.example"),
        ('"Dupont, Jean" <a@x.example>', "Dupont, Jean", "a@x.example"),
        (r'"a \"b\" \\ c" <a@x.example>', r'a "b" \ c', "a@x.example"),
        ('"b@y.example" <a@x.example>', "b@y.example", "a@x.example"),
        ("Jean @ Harbor <a@x.example>", "Jean @ Harbor", "a@x.example"),
        ("a@exämple.de", "", "a@exämple.de"),
    ],
)
def test_a_name_is_told_from_its_address(text, name, address):
    assert split(text) == (name, address)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "name@domain"),
        ("nonsense", "name@domain"),
        ("@x.example", "name@domain"),
        ("a@", "name@domain"),
        ("Ada <>", "name@domain"),
        ("Ada a@x.example>", "> without a <"),
        ("a@b@x.example", "more than one"),
        ("a@x.example, b@x.example", "more than one"),
        ("a@x.example b@x.example", "more than one"),
        ("Jean <a@x.example>, b@y.example", "more than one"),
        ("Jean <a@x.example>, Eva <b@y.example>", "part of another"),
        ("b@y.example <a@x.example>", "part of another"),
        ('"a@evil.example x"@ok.example', "more than one"),
        ('Jean" <a@x.example>', "part of another"),
        ('"Jean <a@x.example>', "quotes"),
        ('"Jean" Q" <a@x.example>', "quotes"),
        ('"Jean\\" <a@x.example>', "quotes"),
        ("a(comment)@x.example", "cannot have"),
        ("friends: a@x.example;", "cannot have"),
        ("a@[127.0.0.1]", "cannot have"),
        ("a\\b@x.example", "cannot have"),
        ("a@x.example\r\nBcc: b@y.example", "line break"),
        ("Ada\n <a@x.example>", "line break"),
        ("a@x.example\x00", "control"),
        ("a@x\u2028.example", "line break"),
        ("a@x\xa0.example", "cannot have"),
        ("a" * 250 + "@x.example", "longer than 254"),
        ("n" * 1_000 + " <a@x.example>", "longer than 1000"),
    ],
)
def test_what_is_not_one_address_is_refused_with_its_reason(text, reason):
    with pytest.raises(AddressError, match=reason):
        split(text)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("Ada.L+news@Reader.EXAMPLE", "ada.l+news@reader.example"),
        ("a@exämple.de", "a@xn--exmple-cua.de"),
        ("A@EXÄMPLE.de", "a@xn--exmple-cua.de"),
        ("a@exa\u0308mple.de", "a@xn--exmple-cua.de"),
        ("a@XN--exmple-cua.de", "a@xn--exmple-cua.de"),
        ("a@faß.de", "a@xn--fa-hia.de"),
        ("a@例え.テスト", "a@xn--r8jz45g.xn--zckzah"),
    ],
)
def test_a_mailbox_has_one_key(address, key):
    assert normalise(address) == key
    assert normalise(key) == key
    assert domain(address) == key.partition("@")[2]


def test_an_ascii_address_keeps_its_case_on_the_wire():
    assert to_ascii("Ada@Reader.example") == "Ada@Reader.example"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ü@exämple.de", "before the @"),
        ("ü@x.example", "before the @"),
        ("a@exa\u200bmple.de", "unsafe"),
        ("a@exämple.de.", "period"),
        ("a@" + "ä" * 60 + ".de", "too long"),
        ("Ada <a@x.example>", "cannot have"),
    ],
)
def test_what_has_no_ascii_form_is_refused_with_its_reason(address, reason):
    with pytest.raises(AddressError, match=reason):
        normalise(address)


@pytest.mark.parametrize(
    ("sender", "found"),
    [
        ("Shop <hi@Shop.Example>", "shop.example"),
        ("hi@BÜCHER.example", "xn--bcher-kva.example"),
        ("Shop <hi@xn--bcher-kva.example>", "xn--bcher-kva.example"),
        ("hi@☃.example", "☃.example"),
        (None, ""),
    ],
)
def test_a_senders_domain_has_one_spelling(sender, found):
    assert sender_domain(sender) == found


@given(st.emails())
def test_an_address_that_a_validator_accepts_has_its_domain(address):
    try:
        expected = validate_email(address, check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError:
        return
    assert domain(address) == expected.ascii_domain


@given(st.text(max_size=60) | st.from_regex(r'.{0,10}[<"@, ]{1,3}.{0,10}[@<>"]{1,3}.{0,10}', fullmatch=True))
def test_any_text_is_split_or_refused(text):
    try:
        _, address = split(text)
    except AddressError:
        return
    assert address in text
    assert split(address) == ("", address)
