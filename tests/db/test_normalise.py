"""The normal form of an address: SQL and Python agree on every address that an INSERT accepts."""

import json
import unicodedata

import psycopg
import pytest
from factories import insert, payload
from hypothesis import given, settings
from hypothesis import strategies as st

from outboxd.core.address import AddressError, normalise


@pytest.fixture(scope="module")
def normalising(server: str, template: str):
    """The SQL function on many addresses at once."""
    from servers import fresh_database

    for url in fresh_database(server, template):
        with psycopg.connect(url, autocommit=True) as conn:

            def many(addresses: list[str]) -> list[str | None]:
                rows = conn.execute(
                    "select outboxd.normalise_address(address)"
                    " from unnest(%s::text[]) with ordinality as given (address, place) order by place",
                    (addresses,),
                )
                return [normalised for (normalised,) in rows]

            yield many


def in_python(address: str) -> str | None:
    try:
        return normalise(address)
    except (AddressError, UnicodeError):
        return None


def assert_agreement(addresses: list[str], in_sql: list[str | None]) -> int:
    """Where SQL takes an address, Python has the same form for it or cannot send to it; how many both take."""
    both = 0
    for address, found in zip(addresses, in_sql, strict=True):
        expected = in_python(address)
        assert found is None or expected is None or found == expected, (ascii(address), found, expected)
        both += found is not None and expected is not None
    return both


@pytest.mark.parametrize(
    ("address", "normalised"),
    [
        ("Ada@Example.ORG", "ada@example.org"),
        ("ADA+tag@example.org", "ada+tag@example.org"),
        ("a.b@example.org", "a.b@example.org"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@BÜCHER.example", "ada@xn--bcher-kva.example"),
        ("ada@bu\u0308cher.example", "ada@xn--bcher-kva.example"),
        ("ada@BU\u0308CHER.example", "ada@xn--bcher-kva.example"),
        ("ada@XN--BCHER-KVA.example", "ada@xn--bcher-kva.example"),
        ("ada@faß.example", "ada@xn--fa-hia.example"),
        ("ada@βόλος.example", "ada@xn--nxasmm1c.example"),
        ("ada@ΒΌΛΟΣ.example", "ada@xn--nxasmq6b.example"),
        ("ada@пример.рф", "ada@xn--e1afmkfd.xn--p1ai"),
        ("ada@ПРИМЕР.РФ", "ada@xn--e1afmkfd.xn--p1ai"),
        ("ada@例え.テスト", "ada@xn--r8jz45g.xn--zckzah"),
        ("ada@중앙.한국", "ada@xn--2e5b11e.xn--3e0b707e"),
        ("ada@מבחן.example", "ada@xn--5dbmtg.example"),
        ("ada@col·lecció.cat", "ada@xn--collecci-ioa91d.cat"),
        ("ada@𠀀.example", "ada@xn--j50i.example"),
        ("ada@mail.bücher.example", "ada@mail.xn--bcher-kva.example"),
    ],
)
def test_an_address_has_one_normal_form_in_sql_and_python(normalising, address, normalised):
    assert normalising([address]) == [normalised]
    assert normalise(address) == normalised


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("ada@İstanbul.example", "a capital with no single small letter"),
        ("ada@gro\u1e9e.example", "capital sharp s"),
        ("ada@ﬁsh.example", "a ligature"),
        ("ada@\u017fhop.example".replace("\u017f", "\ufdfa"), "a ligature of a whole sentence"),
        ("ada@ｅxample.org", "full width"),
        ("ada@a\u034fb.example", "an ignored joiner"),
        ("ada@☃.example", "a sign"),
        ("ada@\u1fb3.example", "an iota subscript"),
        ("ada@x。example.org", "a full stop that is not the dot"),
        ("ada@-ü.example", "a hyphen first"),
        ("ada@ab--ü.example", "hyphens where the prefix would stand"),
        ("jörg@example.org", "a local part outside ASCII"),
        ("ada@" + "ü" * 60 + ".example", "a label too long as A-label"),
    ],
)
def test_what_idna_would_map_to_something_else_is_refused_at_the_insert(conn, normalising, address, what):
    assert normalising([address]) == [None], what
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=r"^payload\.to: ") as refused:
        insert(conn, body=payload(to=address))
    assert address not in str(refused.value)


@pytest.mark.slow
def test_no_code_point_in_a_label_is_converted_differently(normalising):
    points = [
        *range(0x80, 0x3100),
        *range(0x3100, 0xD800, 7),
        *range(0xE000, 0x10000),
        *range(0x10000, 0x40000, 97),
    ]
    labels = [f"x{chr(point)}y" for point in points]
    in_sql = normalising([f"a@{label}.example" for label in labels])
    taken = [label for label, found in zip(labels, in_sql, strict=True) if found]
    assert len(taken) > 8_000
    for first in range(0, len(taken), 8):
        together = [f"a@{'.'.join(taken[first : first + 8])}.example"]
        if not assert_agreement(together, normalising(together)):
            alone = [f"a@{label}.example" for label in taken[first : first + 8]]
            assert_agreement(alone, normalising(alone))


LETTERS = st.characters(
    codec="utf-8",
    categories=["L", "M", "N", "P", "S"],
    include_characters="-.",
)
COMMON = st.sampled_from("abcXYZ019-.äÄßςΣσñÑøØЖжיא日本한ऀा्\u0301\u0308\u0327·・")
DOMAINS = st.lists(st.text(COMMON | LETTERS, min_size=1, max_size=12), min_size=1, max_size=4).map(".".join)
LOCALS = st.text(st.sampled_from("abcXYZ019.+_'=-{}&ü"), min_size=1, max_size=20)


@given(st.lists(st.builds("{}@{}".format, LOCALS, DOMAINS), min_size=20, max_size=20))
@settings(max_examples=60, deadline=None)
def test_sql_and_python_agree_on_whatever_sql_takes(normalising, addresses):
    assert_agreement(addresses, normalising(addresses))


@given(
    st.lists(
        st.builds("a@{}.example".format, st.text(COMMON, min_size=1, max_size=8)), min_size=20, max_size=20
    )
)
@settings(max_examples=60, deadline=None)
def test_the_normal_form_is_its_own(normalising, addresses):
    once = [found for found in normalising(addresses) if found]
    assert normalising(once) == once


def test_a_row_keeps_its_recipients_normalised(conn):
    body = payload(to="Ada <Ada@BÜCHER.example>", cc=["Bob@Example.org"], bcc="c@x.co")
    id_ = insert(conn, body=body)
    stored, kept = conn.execute(
        "select recipients, payload from outboxd.email where id = %s", (id_,)
    ).fetchone()
    assert stored == ["ada@xn--bcher-kva.example", "bob@example.org", "c@x.co"]
    assert kept == json.loads(json.dumps(body))


def test_the_composed_form_is_what_is_kept():
    assert unicodedata.normalize("NFC", "u\u0308") == "ü"
