"""Policy from the shell: listed, changed, exported, and applied as a whole or not at all."""

import json
import threading
import time
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from waiting import until

from outboxd.cli.main import cli
from outboxd.core.rulebook import dump, load, unfit
from outboxd.daemon import WATCH
from outboxd.db import rulebook
from outboxd.db.policy import Policies
from outboxd.db.session import Session
from outboxd.delivery.reclaimer import Reclaimer
from outboxd.errors import ConfigError, DatabaseError
from outboxd.loop import every

SHIPPED = Path(__file__).parents[2] / "deploy" / "policy"
LIMIT_OF_ACME = '[limits.acme]\nkind = "tenant"\nkey = "acme"\nmost = 1\nper = "1 h"\n'


@pytest.fixture
def outboxd(database: str):
    """Runs a command against the test's database."""

    def run(*words: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(
            cli, words, input=stdin, env={"DATABASE_URL": database}, catch_exceptions=True
        )

    return run


@pytest.fixture
def book(database: str):
    return lambda: rulebook.export(database)


class TestOneByOne:
    @pytest.mark.parametrize(
        ("section", "words"),
        [
            ("queues", ["transactional", "exponential", "5 s", "6 h"]),
            ("types", ["newsletter", "marketing", "fixed", "give_up_after"]),
            ("limits", ["gmail_day", "2000", "1 d", "confirmation"]),
        ],
    )
    def test_a_list_shows_what_holds(self, outboxd, section, words):
        shown = outboxd(section, "list")
        assert shown.exit_code == 0
        assert [word for word in words if word not in shown.output] == []
        rows = json.loads(outboxd(section, "list", "--json").output)
        assert len(rows) == len(shown.output.splitlines()) - 1

    def test_set_says_what_it_changed_and_changes_nothing_else(self, outboxd, book):
        before = book()
        answer = outboxd("queues", "set", "marketing", "max_attempts=4", "backoff_base=1 min", "priority=10")
        assert answer.output.splitlines() == [
            "~ queues.marketing.backoff_base  30 s → 1 min",
            "~ queues.marketing.max_attempts  3 → 4",
        ]
        assert book()["queues"]["marketing"] == before["queues"]["marketing"] | {
            "max_attempts": 4,
            "backoff_base": "1 min",
        }
        assert outboxd("queues", "set", "marketing", "max_attempts=4").output == "nothing to change\n"

    def test_lists_numbers_and_null_can_be_typed(self, outboxd, book):
        outboxd("limits", "set", "recipient", "exempt_types=[reset, alert]", "most=5")
        outboxd("limits", "set", "account", "pace=0.5", "most=unlimited")
        outboxd("types", "set", "reset", "max_attempts=null")
        found = book()
        assert found["limits"]["recipient"]["exempt_types"] == ["alert", "reset"]
        assert found["limits"]["account"] == {
            "kind": "account",
            "most": "unlimited",
            "per": "1 s",
            "pace": 0.5,
        }
        assert "max_attempts" not in found["types"]["reset"]

    @pytest.mark.parametrize(
        ("typed", "kept"),
        [
            ("42", "42"),
            ("007", "007"),
            ("1.50", "1.50"),
            ("true", "true"),
            ("[a, b]", "[a, b]"),
            ('"null"', "null"),
            ('"42"', "42"),
        ],
    )
    def test_a_key_is_a_text_whatever_it_looks_like(self, outboxd, book, typed, kept):
        made = outboxd("limits", "set", "x", "kind=tenant", f"key={typed}", "most=42", "per=1 h")
        assert made.exit_code == 0
        assert book()["limits"]["x"] == {"kind": "tenant", "key": kept, "most": 42, "per": "1 h"}
        outboxd("limits", "set", "x", "key=null")
        assert "key" not in book()["limits"]["x"]

    def test_remove_takes_it_away(self, outboxd, book):
        assert outboxd("limits", "remove", "icloud_day").output == "- limits.icloud_day\n"
        assert "icloud_day" not in book()["limits"]
        assert outboxd("queues", "remove", "system").exit_code == 2

    def test_bytes_that_are_no_text_are_refused_by_the_whole_key(self, database):
        with pytest.raises(DatabaseError, match=r"^limits\.x\.key: must be text in UTF-8"):
            rulebook.change(database, "limits", "x", {"key": "\udcff"})

    def test_nonsense_is_refused_by_name(self, outboxd, book):
        before = book()
        refused = outboxd("queues", "set", "marketing", "max_attempts=1000")
        assert isinstance(refused.exception, DatabaseError)
        assert str(refused.exception).startswith("max_attempts: ")
        assert outboxd("queues", "set", "marketing", "max_attempts").exit_code == 2
        assert book() == before


class TestAFile:
    def test_export_and_apply_differ_in_nothing(self, outboxd):
        outboxd("queues", "set", "digest", "priority=33")
        outboxd("types", "set", 'odd "type" ünïcode', "queue=digest", "max_attempts=2")
        outboxd(
            "limits", "set", "acme", "kind=tenant", "key=acme", "most=7", "per=90 s", "exempt_types=[reset]"
        )
        exported = outboxd("policy", "export").output
        applied = outboxd("policy", "apply", "-", stdin=exported)
        assert (applied.exit_code, applied.output) == (0, "nothing to change\n")

    def test_a_changed_export_is_applied_after_a_yes(self, outboxd, book, tmp_path):
        file = tmp_path / "policy.toml"
        outboxd("policy", "export", "--output", str(file))
        file.write_text(file.read_text().replace("most = 2000", "most = 1500"))
        shown = outboxd("policy", "apply", str(file), stdin="y\n")
        assert (shown.exit_code, shown.output.splitlines()[0]) == (0, "~ limits.gmail_day.most  2000 → 1500")
        assert book()["limits"]["gmail_day"]["most"] == 1500

    def test_an_export_is_applied_though_a_limit_of_it_would_be_refused_today(self, outboxd, book, conn):
        conn.execute(
            "insert into outboxd.limit_rule (name, kind, key, most, per)"
            " values ('kept', 'provider_day', 'gmail.com', 5, '1 d')"
        )
        exported = outboxd("policy", "export").output
        assert outboxd("policy", "apply", "-", "--yes", stdin=exported).output == "nothing to change\n"
        assert outboxd("policy", "apply", "-", "--yes", stdin=exported + LIMIT_OF_ACME).exit_code == 0
        assert set(book()["limits"]) >= {"kept", "acme"}

    def test_a_limit_that_would_be_refused_today_changes_as_its_refusal_says(self, outboxd, book, conn):
        conn.execute(
            "insert into outboxd.limit_rule (name, kind, key, most, per)"
            " values ('kept', 'provider_minute', 'gmail.com', 5, '1 min')"
        )
        remedy = "It holds nothing. Give it the key gmail, the provider's, or remove it."
        assert remedy in str(outboxd("limits", "set", "kept", "most=6").exception)
        changed = outboxd("policy", "export").output.replace("most = 5\n", "most = 6\n")
        assert outboxd("policy", "apply", "-", "--yes", stdin=changed).exit_code == 1
        assert book()["limits"]["kept"]["most"] == 5
        assert outboxd("limits", "set", "kept", "most=6", "key=gmail").exit_code == 0
        assert book()["limits"]["kept"] == {
            "kind": "provider_minute", "key": "gmail", "most": 6, "per": "1 min",
        }  # fmt: skip

    def test_without_a_yes_nothing_changes(self, outboxd, book, tmp_path):
        file = tmp_path / "policy.toml"
        file.write_text("[limits]\n")
        before = book()
        assert outboxd("policy", "apply", str(file), stdin="n\n").exit_code == 1
        assert book() == before

    def test_a_section_is_meant_whole_and_an_absent_one_not_at_all(self, outboxd, book):
        before = book()
        text = '[types.reset]\nqueue = "system"\n\n[queues.marketing]\npriority = 11\n'
        assert outboxd("policy", "apply", "-", "--yes", stdin=text).exit_code == 0
        after = book()
        assert after["types"] == {"reset": {"queue": "system"}}
        assert after["limits"] == before["limits"]
        assert after["queues"] == before["queues"] | {
            "marketing": before["queues"]["marketing"] | {"priority": 11}
        }

    def test_one_wrong_key_refuses_all_of_it_and_every_mistake_is_named(self, outboxd, book, conn):
        before = book()
        text = (
            "[queues.marketing]\npriority = 11\nprioritty = 3\n[queues.system]\npriority = 12\n"
            '[limits.recipient]\nkind = "recipient"\nmost = 0\nper = "1 h"\n'
            "[types.reset]\nbackoff_base = 2024-01-01\n"
        )
        refused = outboxd("policy", "apply", "-", "--yes", stdin=text)
        assert refused.exit_code == 1
        for path in ("queues.marketing.prioritty: ", "limits.recipient.most: ", "types.reset.backoff_base: "):
            assert path in refused.output
        assert book() == before
        assert conn.execute("select count(*) from outboxd.operator_log").fetchone() == (0,)

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("most = nan", "limits.x.most: must be a finite number"),
            ("most = -inf", "limits.x.most: must be a finite number"),
            (f"most = 0x{'f' * 5000}", "limits.x.most: must be a finite number"),
            (
                "per = 2024-01-01",
                "limits.x.per: must be a text, a number, true, false or a list of texts, not a date",
            ),
            (
                "per = 07:00:00",
                "limits.x.per: must be a text, a number, true, false or a list of texts, not a time",
            ),
            ('key = "a\\u0000b"', "limits.x.key: must be text in UTF-8 without NUL characters"),
            (
                'exempt_types = ["a\\u0000b"]',
                "limits.x.exempt_types: must be text in UTF-8 without NUL characters",
            ),
            ("exempt_types = [2024-01-01]", "limits.x.exempt_types: must be a text"),
            ("most.least = 1", "limits.x.most: must be a text"),
            ('"k\\u0000" = 1', 'limits.x."k\\u0000": must be text'),
            ('[limits."a.\\u0000"]', 'limits."a.\\u0000": must be text'),
            ('[limits."a b"]', 'limits."a b".name: must be'),
        ],
        ids=range(12),
    )
    def test_what_no_policy_can_hold_is_refused_with_its_whole_key(self, outboxd, book, line, said):
        before = book()
        text = f'[types.reset]\nqueue = "nowhere"\n[limits.x]\nkind = "tenant"\n{line}\n'
        refused = outboxd("policy", "apply", "-", "--yes", stdin=text)
        assert refused.exit_code == 1
        assert f"  {said}" in refused.output
        assert "  types.reset.queue: " in refused.output
        assert book() == before

    def test_a_file_that_is_no_text_is_refused(self, outboxd, tmp_path):
        file = tmp_path / "policy.toml"
        file.write_bytes("[types.café]".encode("latin-1"))
        refused = outboxd("policy", "apply", "--yes", str(file))
        assert refused.exit_code == 1
        assert "not UTF-8 text" in refused.output

    def test_what_was_not_shown_is_not_applied(self, database, book, conn):
        def somebody_else_was_faster(_changes: object) -> bool:
            conn.execute("""select outboxd.set_queue('marketing', '{"priority": 50}')""")
            return True

        with pytest.raises(DatabaseError, match="meanwhile"):
            rulebook.apply(database, {"queues": {"marketing": {"priority": 20}}}, somebody_else_was_faster)
        assert book()["queues"]["marketing"]["priority"] == 50

    @pytest.mark.parametrize("text", ["[queues", "[colours.red]", "queues = 7", "[queues]\nmarketing = 7"])
    def test_what_is_no_rulebook_is_refused(self, outboxd, text):
        refused = outboxd("policy", "apply", "-", "--yes", stdin=text)
        assert refused.exit_code == 1
        assert "nothing was changed" in refused.output

    def test_the_defaults_that_ship_are_the_defaults(self, outboxd):
        assert outboxd("policy", "apply", str(SHIPPED / "default.toml")).output == "nothing to change\n"

    def test_the_unlimited_policy_that_ships_leaves_no_limit(self, outboxd, conn):
        assert outboxd("policy", "apply", "--yes", str(SHIPPED / "unlimited.toml")).exit_code == 0
        assert conn.execute("select count(*), count(most) from outboxd.limit_policy").fetchone() == (8, 0)
        assert outboxd("policy", "apply", "--yes", str(SHIPPED / "default.toml")).exit_code == 0
        assert conn.execute("select count(most) from outboxd.limit_policy").fetchone() == (8,)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
VALUES = st.one_of(st.integers(0, 10**9), NAMES, st.lists(NAMES, max_size=3), st.just(0.97))
BOOKS = st.dictionaries(
    st.sampled_from(["queues", "types", "limits"]),
    st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=4), max_size=4),
)


@given(BOOKS)
def test_a_dumped_book_loads_as_it_was(book):
    assert load(dump(book)) == book


@given(BOOKS)
def test_what_a_book_can_hold_is_fit(book):
    assert [
        unfit(section, *entry)
        for section in book
        for entry in book[section].items()
        if unfit(section, *entry)
    ] == []


def test_a_book_with_a_stranger_section_is_refused():
    with pytest.raises(ConfigError, match="colours"):
        load("[colours.red]")


@pytest.fixture
def watching(database: str):
    """The policies of a reclaimer that makes its rounds as in the daemon, once it has read them."""
    policies, stop = Policies(), threading.Event()
    reclaimer = Reclaimer(Session(database, "reclaimer", stop=stop), 3, policies)
    thread = threading.Thread(target=every, args=(WATCH, reclaimer.round, stop), kwargs={"name": "reclaimer"})
    thread.start()
    try:
        until(lambda: policies.of("system", "x").backoff == "fixed", what="the first reading")
        yield policies
    finally:
        stop.set()
        thread.join()
        reclaimer.session.close()


class TestDaemonsFollow:
    def test_a_change_is_followed_within_a_second(self, conn, watching):
        policies, waits = watching, []
        for attempts in range(11, 16):
            conn.execute(
                "select outboxd.set_queue('marketing', %s)", (json.dumps({"max_attempts": attempts}),)
            )
            changed = time.monotonic()
            until(lambda most=attempts: policies.of("marketing", "x").max_attempts == most, what="the change")
            waits.append(time.monotonic() - changed)
        assert timedelta(seconds=1) > WATCH
        assert max(waits) < 1.5  # a second, and what a busy machine adds

    def test_an_unchanged_policy_is_not_read_again(self, database, conn):
        policies = Policies()
        reclaimer = Reclaimer(Session(database, "reclaimer", stop=threading.Event()), 3, policies)
        reclaimer.round()
        read = policies._known
        reclaimer.round()
        assert policies._known is read
        conn.execute("update outboxd.queue set priority = priority")
        reclaimer.round()
        reclaimer.session.close()
        assert policies._known is not read

    def test_a_lost_connection_does_not_hide_a_change(self, database, conn):
        policies, stop = Policies(), threading.Event()
        reclaimer = Reclaimer(Session(database, "reclaimer", stop=stop), 3, policies)
        reclaimer.round()
        conn.execute("""select outboxd.set_queue('system', '{"max_attempts": 9}')""")
        with psycopg.connect(database, autocommit=True) as killer:
            killer.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'outboxd reclaimer'"
                " and datname = current_database()"
            )
        until(lambda: reclaimer.round() or policies.of("system", "x").max_attempts == 9, what="the change")
        reclaimer.session.close()
