"""Lines of a CSV file become suppressions, or say what is wrong without showing it."""

import csv
import io
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxd.core.suppression import BadLine, ColumnsError, Entry, Expired, read

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def read_text(text: str, **options):
    defaults = options.pop("defaults", {"reason": "admin"})
    return list(read(io.StringIO(text, newline=""), now=NOW, defaults=defaults, **options))


def test_a_file_without_a_header_is_a_list_of_addresses():
    assert read_text("Ada@Example.org\n\nbob@bücher.example,whatever\n") == [
        (1, Entry("ada@example.org", "admin")),
        (3, Entry("bob@xn--bcher-kva.example", "admin")),
    ]


def test_a_header_names_the_columns_in_any_order():
    text = "Reason,EMAIL,scope,expires_at,metadata\nunsubscribe,ada@example.org,newsletter,2031-02-03T04:05:06+02:00,{}\n"
    ((line, found),) = read_text(text)
    assert line == 2
    assert found == Entry(
        "ada@example.org",
        "unsubscribe",
        "newsletter",
        expires_at=datetime(2031, 2, 3, 2, 5, 6, tzinfo=UTC),
        metadata="{}",
    )


def test_an_instant_without_an_offset_is_utc():
    ((_, found),) = read_text("email,expires_at\nada@example.org,2031-02-03\n")
    assert found.expires_at == datetime(2031, 2, 3, tzinfo=UTC)


def test_what_has_expired_is_no_bad_line():
    text = "email,expires_at\nada@example.org,2030-01-01\nada@example.org,2030-01-01T00:00:01Z\n"
    (_, expired), (_, holds) = read_text(text)
    assert expired == Expired()
    assert isinstance(holds, Entry)


def test_an_unknown_column_is_refused_by_name():
    with pytest.raises(ColumnsError, match="scop"):
        read_text("email,scop\nada@example.org,newsletter\n")


def test_the_address_column_of_another_program_can_be_named():
    text = "status;mail;reason\n500;ada@example.org;550 no such user\n"
    assert read_text(text, address_column="Mail", delimiter=";") == [(2, Entry("ada@example.org", "admin"))]
    with pytest.raises(ColumnsError, match="no column"):
        read_text(text, address_column="address")


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("nonsense,,,,,", "address: is not"),
        (",hard_bounce,,,,", "address: is missing"),
        ("Ada <ada@example.org>,,,,,", "address: is not"),
        ("a\x00b@example.org,,,,,", "address: is not"),
        ("jörg@example.org,,,,,", "address: is not"),
        ("ada@example.org,bounced,,,,", "reason: must be one of"),
        (f"ada@example.org,,{'x' * 101},,,", "scope: has"),
        (f"ada@example.org,,,{'x' * 1001},,", "cause: has"),
        ("ada@example.org,,,a\x00b,,", "cause: has"),
        ("ada@example.org,,,,tomorrow,", "expires_at: is not"),
        ("ada@example.org,,,,2029-12-31,[]", "metadata: is not"),
        ("ada@example.org,,,M\udcfcller,,", "cause: is not UTF-8"),
        ("ada@b\udcfccher.example,,,,,", "address: is not UTF-8"),
        ("ada@example.org,,,,,[]", "metadata: is not"),
        ("ada@example.org,,,,,{", "metadata: is not"),
        ('ada@example.org,,,,,"{""a"":""\\u0000""}"', "metadata: is not"),
        ('ada@example.org,,,"' + "x" * 200_000 + '",,', "cannot be read"),
    ],
)
def test_a_bad_line_is_told_by_number_and_field_without_its_value(line, field):
    text = f"address,reason,scope,cause,expires_at,metadata\n{line}\ngood@example.org,,,,,\n"
    (number, bad), (_, good) = read_text(text)
    assert number == 2
    assert isinstance(bad, BadLine)
    assert bad.reason.startswith(field)
    assert not any(secret in bad.reason for secret in ("ada@", "nonsense", "bounced", "tomorrow", "xxx"))
    assert good == Entry("good@example.org", "admin")


def test_a_line_without_any_reason_is_bad():
    ((_, bad),) = read_text("ada@example.org\n", defaults={})
    assert bad == BadLine("reason: is missing")


@pytest.mark.parametrize("address", ["=1+1@x.co", "+a@x.co", "-a@x.co", "'=a@x.co", "''-a@x.co", "'a@x.co"])
def test_what_was_kept_from_spreadsheets_comes_back_as_it_was(address):
    protected = address if address == "'a@x.co" else f"'{address}"
    ((_, found),) = read_text(f"address\n{protected}\n")
    assert found.address == address


@given(st.lists(st.lists(st.text(max_size=30), min_size=1, max_size=8), max_size=20))
def test_whatever_a_file_holds_is_an_entry_or_a_bad_line(table):
    out = io.StringIO(newline="")
    csv.writer(out).writerows(
        [["address", "scope", "reason", "source", "cause", "expires_at", "metadata"], *table]
    )
    for line, found in read_text(out.getvalue()):
        assert line > 1
        assert isinstance(found, Entry | Expired | BadLine)
