"""`outboxd suppressions`: what a person types, what comes back."""

import csv
import io
import json

import pytest
from click.testing import CliRunner

from outboxd.cli.main import cli
from outboxd.core.suppression import Counts, Entry
from outboxd.db import suppression
from outboxd.errors import DatabaseError


@pytest.fixture
def outboxd(database):
    """Runs a command; its result has exit_code, stdout, stderr."""

    def run(*arguments, stdin=None):
        return CliRunner().invoke(
            cli, ["suppressions", *map(str, arguments)], input=stdin, env={"DATABASE_URL": database}
        )

    return run


def held(conn):
    return conn.execute("select address, scope, reason from outboxd.suppression order by 1, 2").fetchall()


def test_add_list_and_remove(outboxd, conn):
    assert (
        outboxd("add", "Ada@BÜCHER.example", "--reason", "unsubscribe", "--scope", "marketing").exit_code == 0
    )
    again = outboxd("add", "ada@xn--bcher-kva.example", "--reason", "unsubscribe", "--scope", "marketing")
    assert (again.exit_code, again.stderr) == (0, "")
    assert "already" in again.stdout
    (row,) = json.loads(outboxd("list", "--json", "--address", "ADA@bücher.example").stdout)
    assert (row["address"], row["scope"], row["source"]) == ("ada@xn--bcher-kva.example", "marketing", "cli")
    assert outboxd("remove", "ada@bücher.example", "--scope", "all").exit_code == 1
    assert outboxd("remove", "ada@bücher.example").exit_code == 0
    assert held(conn) == []


def test_a_scope_that_nothing_has_is_noted(outboxd):
    assert "scope" in outboxd("add", "a@x.co", "--reason", "admin", "--scope", "newsleter").stderr
    for known in ("all", "marketing", "newsletter"):
        assert outboxd("add", "a@x.co", "--reason", "admin", "--scope", known).stderr == ""


def test_what_is_no_address_is_refused_without_showing_it(outboxd):
    result = outboxd("add", "Ada <ada@example.org>", "--reason", "admin")
    assert isinstance(result.exception, DatabaseError)
    assert "ada@" not in str(result.exception)


def test_list_filters(outboxd):
    outboxd("add", "a@x.co", "--reason", "admin", "--source", "one")
    outboxd("add", "b@x.co", "--reason", "fraud", "--scope", "marketing")
    outboxd("add", "c@x.co", "--reason", "admin", "--expires-at", "2999-01-01")

    def found(*filters):
        return {row["address"] for row in json.loads(outboxd("list", "--json", *filters).stdout)}

    assert found() == {"a@x.co", "b@x.co", "c@x.co"}
    assert found("--reason", "admin") == {"a@x.co", "c@x.co"}
    assert found("--scope", "marketing") == {"b@x.co"}
    assert found("--source", "one") == {"a@x.co"}
    assert found("--limit", "1") == {"c@x.co"}


def test_the_list_leaves_out_what_has_expired_unless_asked(outboxd, conn):
    outboxd("add", "a@x.co", "--reason", "admin")
    conn.execute("update outboxd.suppression set expires_at = clock_timestamp()")
    assert json.loads(outboxd("list", "--json").stdout) == []
    assert len(json.loads(outboxd("list", "--json", "--expired").stdout)) == 1


def test_an_import_takes_good_lines_and_names_bad_ones_without_their_addresses(outboxd, conn, tmp_path):
    text = (
        "email,reason,scope\nAda@example.org,hard_bounce,\nnonsense,,\nada@example.org,spam_complaint,\n"
        "b..b@docomo.example,,\nc@bücher.example,unsubscribe,newsletter\nd@x.co,no_such_reason,\n"
    )
    file, rejects = tmp_path / "list.csv", tmp_path / "rejects.csv"
    file.write_text("\ufeff" + text, "utf-8")
    result = outboxd("import", file, "--reason", "admin", "--rejects", rejects)
    assert result.exit_code == 1
    assert result.stdout == "added 2, changed 0, kept 1, expired 0, bad lines 3\n"
    assert held(conn) == [
        ("ada@example.org", "all", "spam_complaint"),
        ("c@xn--bcher-kva.example", "newsletter", "unsubscribe"),
    ]
    bad = list(csv.DictReader(io.StringIO(rejects.read_text())))
    assert [row["line"] for row in bad] == ["3", "5", "7"]
    assert "@" not in rejects.read_text()

    again = outboxd("import", "-", "--reason", "admin", stdin=text)
    assert again.stdout == "added 0, changed 0, kept 3, expired 0, bad lines 3\n"
    assert again.stderr.count("line ") == 3
    assert "@" not in again.stderr + again.stdout


def test_a_header_that_is_not_understood_imports_nothing(outboxd, conn):
    result = outboxd("import", "-", "--reason", "admin", stdin="email,scop\na@x.co,marketing\n")
    assert result.exit_code == 2
    assert "scop" in result.stderr
    assert held(conn) == []


def test_an_export_comes_back_as_it_was_and_starts_no_formula(outboxd, conn):
    addresses = ["=1+1@x.co", "+a@x.co", "-b@x.co", "'=c@x.co", "'d@x.co", "e@xn--bcher-kva.example"]
    for address in addresses:
        conn.execute("select outboxd.suppress(%s, 'admin', cause => '=HYPERLINK(1)')", (address,))
    outboxd("add", "f@x.co", "--reason", "unsubscribe", "--scope", "marketing", "--expires-at", "2999-01-01")
    outboxd("add", "gone@x.co", "--reason", "gdpr")
    everything = "select address, scope, reason, source, cause, expires_at from outboxd.suppression where address > '' order by 1"
    before = conn.execute(everything).fetchall()
    exported = outboxd("export")
    assert exported.exit_code == 0
    assert "left out 1" in exported.stderr
    assert "gone" not in exported.stdout
    cells = [cell for row in csv.reader(io.StringIO(exported.stdout)) for cell in row]
    assert not [cell for cell in cells if cell[:1] in set("=+-@\t\r")]

    conn.execute("delete from outboxd.suppression")
    assert (
        outboxd("import", "-", stdin=exported.stdout).stdout
        == "added 7, changed 0, kept 0, expired 0, bad lines 0\n"
    )
    assert conn.execute(everything).fetchall() == before


def test_an_export_can_be_filtered(outboxd):
    outboxd("add", "a@x.co", "--reason", "admin")
    outboxd("add", "b@x.co", "--reason", "fraud", "--scope", "marketing")
    assert "b@x.co" not in outboxd("export", "--reason", "admin").stdout
    assert "a@x.co" not in outboxd("export", "--scope", "marketing").stdout


def test_an_import_that_breaks_leaves_whole_chunks(database, conn, monkeypatch):
    monkeypatch.setattr(suppression, "CHUNK", 3)
    seen: list[Counts] = []

    def records():
        for line in range(1, 6):
            yield line, Entry(f"a{line}@x.co", "admin")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        suppression.take_in(database, records(), reject=print, progress=seen.append)
    assert [address for address, *_ in held(conn)] == ["a1@x.co", "a2@x.co", "a3@x.co"]
    assert seen == [Counts(added=3)]


def test_a_chunk_that_the_database_refuses_is_told_with_what_was_done_before(database, conn, monkeypatch):
    monkeypatch.setattr(suppression, "CHUNK", 2)
    entries = [
        Entry("a@x.co", "admin"),
        Entry("b@x.co", "admin"),
        Entry("c@x.co", "admin"),
        Entry("d@x.co", "admin", ""),
    ]
    with pytest.raises(DatabaseError, match="2 records were done") as refused:
        suppression.take_in(database, enumerate(entries), reject=print, progress=lambda _: None)
    assert "@" not in str(refused.value)
    assert [address for address, *_ in held(conn)] == ["a@x.co", "b@x.co"]


def test_an_import_notes_a_scope_that_nothing_has_before_it_reads_a_line(outboxd):
    result = outboxd("import", "-", "--reason", "admin", "--scope", "newsleter", stdin="a@x.co\n")
    noted = outboxd("add", "b@x.co", "--reason", "admin", "--scope", "newsleter").stderr
    assert (result.exit_code, result.stderr) == (0, noted)
    assert noted.startswith("note: ")
    refused = outboxd("import", "-", "--scope", "newsleter", stdin="email,scop\n")
    assert refused.stderr.startswith(noted)
    for known in ("all", "marketing", "newsletter"):
        assert outboxd("import", "-", "--reason", "admin", "--scope", known, stdin="a@x.co\n").stderr == ""


def test_an_import_names_the_files_scopes_that_nothing_has_once(outboxd, monkeypatch):
    monkeypatch.setattr(suppression, "CHUNK", 2)
    scopes = ["newsleter", "marketing", "markting\x1b", "all", "newsleter", "ada@example.org", ""]
    lines = "".join(f"a{number}@x.co,{scope}\n" for number, scope in enumerate(scopes))
    result = outboxd("import", "-", "--reason", "admin", stdin=f"email,scope\n{lines}")
    assert result.exit_code == 0
    (note,) = result.stderr.splitlines()
    assert note.endswith(r": 'markting\x1b', 'newsleter', and some with an @ (is the scope in its column?)")
    many = "".join(f"a{number}@x.co,s{number:04}\n" for number in range(1000))
    note = outboxd("import", "-", "--reason", "admin", stdin=f"email,scope\n{many}").stderr
    assert note.count("'s0") == suppression.UNKNOWN_SCOPES


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("--expires-at", "tomorrow", "is not an instant"),
        ("--expires-at", "2020-01-01", "has passed"),
        ("--scope", "x" * 101, "more than 100"),
        ("--cause", "x" * 1001, "more than 1000"),
    ],
)
def test_an_option_that_would_make_every_line_bad_is_refused_once(outboxd, conn, option, value, why):
    result = outboxd("import", "-", "--reason", "admin", option, value, stdin="a@x.co\nb@x.co\n")
    assert result.exit_code == 2
    assert option in result.stderr
    assert why in result.stderr
    assert "line " not in result.stderr
    assert held(conn) == []
    until = outboxd("import", "-", "--reason", "admin", "--expires-at", "2999-01-01", stdin="a@x.co\n")
    assert until.exit_code == 0


def test_a_line_that_expired_since_its_export_is_counted_and_is_no_error(outboxd, conn):
    outboxd("add", "a@x.co", "--reason", "admin", "--expires-at", "2999-01-01")
    exported = outboxd("export").stdout.replace("2999", "2001")
    conn.execute("delete from outboxd.suppression")
    result = outboxd("import", "-", stdin=f"{exported}b@x.co,all,admin,cli,,,,\n")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "added 1, changed 0, kept 0, expired 1, bad lines 0\n"
    assert held(conn) == [("b@x.co", "all", "admin")]


def test_an_import_is_new_to_this_list_whatever_its_file_says(outboxd, conn):
    began = conn.execute("select clock_timestamp()").fetchone()[0]
    text = "email,created_at\na@x.co,2001-01-01T00:00:00Z\n"
    assert outboxd("import", "-", "--reason", "admin", stdin=text).exit_code == 0
    assert conn.execute("select created_at >= %s from outboxd.suppression", (began,)).fetchone() == (True,)


def test_a_line_that_is_not_utf_8_is_bad_and_is_not_stored_in_other_words(outboxd, conn):
    text = "email,cause,other\na@x.co,Müller,\nb@x.co,fine,ü\nü@x.co,,\n".encode("latin-1")
    result = outboxd("import", "-", "--reason", "admin", stdin=text.replace(b",other", b","))
    assert result.exit_code == 1
    assert result.stdout == "added 1, changed 0, kept 0, expired 0, bad lines 2\n"
    told = result.stderr.splitlines()
    assert [line.partition(";")[0] for line in told] == [
        "line 2: cause: is not UTF-8", "line 4: address: is not UTF-8"
    ]  # fmt: skip
    assert conn.execute("select address, cause from outboxd.suppression").fetchall() == [("b@x.co", "fine")]
    again = outboxd("import", "-", "--reason", "admin", "--address-column", "email", stdin=text)
    assert again.stdout == "added 1, changed 0, kept 1, expired 0, bad lines 1\n"
