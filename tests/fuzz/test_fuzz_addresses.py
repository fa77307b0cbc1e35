"""Any text is an address or an AddressError, here as in Postgres; the key of a mailbox is a fixed point."""

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trying import LONG_TEXTS, SOON, STORABLE, cheaply, hostile_text, many, shapes

from outboxd.core.address import CONTROL, AddressError, domain, normalise, sender_domain, split, to_ascii

parts = st.sampled_from(
    ["ada", "a.b", "ü", "xn--bcher-kva", "example", ".", "..", "@", " ", "<", ">", '"', "\\", "(", ")", ",", ";", "-",
     "bücher", "ß", "İ", "١", "\u200d", "\u0301", "。", "\uff0e", "xn--", "XN--A", "org", "127.0.0.1", "[", "]"]
)  # fmt: skip
addresses = st.one_of(
    hostile_text(),
    st.lists(parts, max_size=8).map("".join),
    st.tuples(hostile_text(20), st.lists(parts, max_size=5).map("".join)).map(
        lambda both: f"{both[0]} <{both[1]}>"
    ),
    st.tuples(st.lists(parts, min_size=1, max_size=4), st.lists(parts, min_size=1, max_size=4)).map(
        lambda both: "".join(both[0]) + "@" + "".join(both[1])
    ),
)


@many(700)
@given(addresses)
def test_any_text_is_an_address_or_refused_as_one(text):
    sender_domain(text)
    try:
        _, address = split(text)
        key = normalise(address)
    except AddressError as error:
        assert str(error)
        return
    assert normalise(key) == key, "asked again, the key is another"
    assert key.count("@") == 1
    assert not CONTROL.search(key)
    assert not set(key) & set('<>(),:;[]\\" ')
    assert to_ascii(address).rpartition("@")[2].isascii()
    assert domain(address) == key.rpartition("@")[2]


@pytest.mark.parametrize("text", LONG_TEXTS, ids=lambda text: ascii(text[:8]))
def test_a_long_text_costs_little(text):
    def look(one: str) -> None:
        sender_domain(one)
        for step in (split, normalise, to_ascii):
            try:
                step(one)
            except AddressError:
                continue

    for one in shapes(text):
        cheaply(lambda one=one: look(one))


@many(200)
@given(
    addresses.filter(lambda text: "\x00" not in text and not any("\ud800" <= one <= "\udfff" for one in text))
)
def test_any_text_in_postgres_is_a_key_or_refused_by_name(database, text):
    """The refusal is one of ours: no error of an inner function shows through."""
    conn = connection(database)
    try:
        (key,) = conn.execute("select outboxd.normalise_address(%s)", (text,)).fetchone()
    except psycopg.Error as error:
        assert error.sqlstate in {"22023", "23514"}, (text, error.sqlstate, str(error))
        return
    if key is not None:
        assert conn.execute("select outboxd.normalise_address(%s)", (key,)).fetchone() == (key,)


@pytest.mark.parametrize("text", STORABLE, ids=lambda text: ascii(text[:8]))
def test_a_long_text_in_postgres_is_soon_a_key_or_none(postgres, text):
    with postgres.transaction(force_rollback=True):
        postgres.execute(SOON)
        for one in shapes(text):
            ((key, labels),) = postgres.execute(
                "select outboxd.normalise_address(%(one)s), outboxd.domain_to_ascii(%(one)s)", {"one": one}
            )
            assert len(key or "") <= 254
            assert labels is None or len(one) <= 254


_opened: dict[str, psycopg.Connection] = {}


def connection(database: str) -> psycopg.Connection:
    """One for all examples of a test."""
    if database not in _opened:
        for old in _opened.values():
            old.close()
        _opened.clear()
        _opened[database] = psycopg.connect(database, autocommit=True)
    return _opened[database]
