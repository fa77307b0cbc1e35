"""Policy as data: changed by functions that refuse nonsense by name, logged, and announced to daemons."""

import json
import threading
from collections.abc import Iterator

import psycopg
import pytest
from factories import insert
from servers import fresh_database
from waiting import until

from outboxd.db import lease

MISSION = [
    ("account", None, 10, "1 s"),
    ("provider_day", "gmail", 2000, "1 d"),
    ("provider_day", "icloud", 200, "1 d"),
    ("provider_day", "microsoft", 500, "1 d"),
    ("provider_day", "yahoo", 500, "1 d"),
    ("provider_day", None, 10000, "1 d"),
    ("provider_minute", None, 100, "1 min"),
    ("recipient", None, 3, "1 h"),
]
VERBS = {"queue": "set_queue", "type": "set_type", "limit": "set_limit"}


def change(conn: psycopg.Connection, kind: str, name: str | None, settings: object) -> dict:
    given = None if settings is None else json.dumps(settings)
    return conn.execute(f"select outboxd.{VERBS[kind]}(%s, %s::jsonb)", (name, given)).fetchone()[0]


def version(conn: psycopg.Connection) -> int:
    return conn.execute("select version from outboxd.policy_version").fetchone()[0]


def log(conn: psycopg.Connection) -> list[tuple]:
    return conn.execute("select action, kind, key, detail from outboxd.operator_log order by id").fetchall()


def book(conn: psycopg.Connection) -> dict:
    return conn.execute("select outboxd.whole_policy()").fetchone()[0]


def test_the_limits_at_the_start_are_the_missions(conn):
    rows = conn.execute(
        "select kind, key, most, outboxd.duration_text(per) from outboxd.limit_policy order by kind, key"
    ).fetchall()
    assert rows == MISSION
    assert conn.execute("select name from outboxd.limit_policy where exempt_types <> '{}'").fetchall() == [
        ("recipient",)
    ]


class TestChanges:
    def test_a_setting_changes_alone_and_the_answer_says_from_what_to_what(self, conn):
        before = book(conn)["queues"]["marketing"]
        changes = change(
            conn, "queue", "marketing", {"max_attempts": 4, "backoff_base": "90 s", "priority": 10}
        )
        assert changes == {
            "max_attempts": {"from": 3, "to": 4},
            "backoff_base": {"from": "30 s", "to": "90 s"},
        }
        assert book(conn)["queues"]["marketing"] == before | {"max_attempts": 4, "backoff_base": "90 s"}

    def test_a_new_queue_has_the_defaults_and_takes_email_at_once(self, conn):
        change(conn, "queue", "digest", {"priority": 20})
        queue, priority, attempts = conn.execute(
            "select queue, priority, max_attempts from outboxd.queue_policy where queue = 'digest'"
        ).fetchone()
        assert (queue, priority, attempts) == ("digest", 20, 3)
        conn.execute(
            "select outboxd.enqueue(%s::jsonb, 'x', queue => 'digest')",
            ('{"from": "a@b.co", "to": "c@d.co", "subject": "s", "text": "t"}',),
        )

    def test_a_queue_s_weight_is_seen_by_the_next_claim(self, conn):
        assert change(conn, "queue", "marketing", {"weight": 3}) == {"weight": {"from": 1, "to": 3}}
        insert(conn, type="newsletter")
        (found,) = lease.slots(conn, "default")
        assert found.weight == 3

    def test_a_type_takes_from_its_queue_what_is_null(self, conn):
        change(conn, "type", "reset", {"max_attempts": None, "give_up_after": "1 h"})
        row = conn.execute(
            "select max_attempts, outboxd.duration_text(give_up_after), inherited from outboxd.type_policy"
            " where type = 'reset'"
        ).fetchone()
        assert row == (5, "1 h", ["max_attempts"])

    def test_a_type_and_a_limit_are_removed_by_null(self, conn):
        assert change(conn, "type", "report", None) == {"queue": {"from": "system", "to": None}}
        change(conn, "limit", "icloud_day", None)
        assert "report" not in book(conn)["types"]
        assert "icloud_day" not in book(conn)["limits"]

    @pytest.mark.parametrize("most", ["unlimited", None])
    def test_a_limit_is_switched_off(self, conn, most):
        change(conn, "limit", "recipient", {"most": most})
        assert book(conn)["limits"]["recipient"]["most"] == "unlimited"

    def test_a_new_limit_is_whole(self, conn):
        given = {
            "kind": "tenant",
            "key": "acme",
            "most": 50,
            "per": "10 min",
            "exempt_types": ["reset", "alert", "reset"],
        }
        change(conn, "limit", "acme", given)
        assert book(conn)["limits"]["acme"] == given | {"exempt_types": ["alert", "reset"]}

    def test_a_domain_under_a_provider_is_refused_with_the_provider_s_name(self, conn):
        rule = {"kind": "provider_day", "key": "yahoo.fr", "most": 1, "per": "1 h"}
        with pytest.raises(psycopg.errors.InvalidParameterValue) as refused:
            change(conn, "limit", "new", rule)
        assert refused.value.diag.message_primary == "key: this domain is listed under a provider"
        assert refused.value.diag.message_hint == "Limit the provider: yahoo."

    def test_a_provider_named_as_its_domain_can_be_limited_and_paused(self, conn):
        conn.execute("insert into outboxd.provider_domain values ('shop.example', 'shop.example')")
        rule = {"kind": "provider_day", "key": "shop.example", "most": 1, "per": "1 h"}
        change(conn, "limit", "new", rule)
        conn.execute("select outboxd.pause('provider', 'shop.example', 'x')")
        assert book(conn)["limits"]["new"] == rule

    @pytest.mark.parametrize("written", ["BÜCHER.example", "bu\u0308cher.example", "XN--BCHER-KVA.example"])
    def test_a_limit_s_domain_is_kept_as_recipients_are(self, conn, written):
        rule = {"kind": "provider_day", "key": written, "most": 1, "per": "1 h"}
        change(conn, "limit", "new", rule)
        assert book(conn)["limits"]["new"]["key"] == "xn--bcher-kva.example"
        assert change(conn, "limit", "new", rule) == {}

    def test_another_kind_takes_no_window_of_the_old_one(self, conn):
        """A month's quota that became one of a day counted 31 days."""
        month = {"kind": "account_month", "most": 3000}
        change(conn, "limit", "ours", month)
        change(conn, "limit", "ours", {"kind": "account_day", "most": 100})
        assert conn.execute("select outboxd.limit_settings('ours') ->> 'per'").fetchone() == ("1 d",)
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="per: is missing"):
            change(conn, "limit", "ours", {"kind": "campaign"})
        change(conn, "limit", "ours", {"kind": "campaign", "per": "2 h"})
        change(conn, "limit", "ours", {"most": 7})
        assert conn.execute("select outboxd.limit_settings('ours') ->> 'per'").fetchone() == ("2 h",)
        change(conn, "limit", "ours", month)
        assert conn.execute("select outboxd.limit_settings('ours')").fetchone() == (
            month | {"starts_on": 1, "critical_share": 0.1},
        )

    def test_an_option_goes_with_an_empty_list(self, conn):
        change(conn, "limit", "recipient", {"exempt_types": []})
        assert "exempt_types" not in book(conn)["limits"]["recipient"]

    def test_what_the_book_says_can_be_set_again_and_changes_nothing(self, conn):
        before, at = book(conn), version(conn)
        for kind in VERBS:
            for name, settings in before[f"{kind}s"].items():
                assert change(conn, kind, name, settings) == {}
        assert (book(conn), log(conn)) == (before, [])
        assert version(conn) >= at


NONSENSE = [
    ("queue", "transactional", {"prioritty": 1}, "prioritty"),
    ("queue", "transactional", {"priority": 0}, "priority"),
    ("queue", "transactional", {"priority": 1.5}, "priority"),
    ("queue", "transactional", {"priority": "1"}, "priority"),
    ("queue", "transactional", {"priority": True}, "priority"),
    ("queue", "transactional", {"priority": None}, "priority"),
    ("queue", "transactional", {"max_attempts": 10**12}, "max_attempts"),
    ("queue", "transactional", {"backoff": "linear"}, "backoff"),
    ("queue", "transactional", {"backoff_base": "2 h"}, "backoff_base"),
    ("queue", "transactional", {"backoff_base": "0 s"}, "backoff_base"),
    ("queue", "transactional", {"backoff_base": 5}, "backoff_base"),
    ("queue", "transactional", {"backoff_base": "5"}, "backoff_base"),
    ("queue", "transactional", {"backoff_base": "soon"}, "backoff_base"),
    ("queue", "transactional", {"dedupe_for": "1 month"}, "dedupe_for"),
    ("queue", "transactional", {"dedupe_for": "-1 h"}, "dedupe_for"),
    ("queue", "transactional", {"give_up_after": "23 h"}, "give_up_after"),
    ("queue", "transactional", {"keep_done": -1}, "keep_done"),
    ("queue", "Shouting", {}, "name"),
    ("queue", None, {}, "name"),
    ("queue", "transactional", [], "settings"),
    ("queue", "transactional", None, "settings"),
    ("type", "reset", {"queue": "nowhere"}, "queue"),
    ("type", "reset", {"queue": None}, "queue"),
    ("type", "reset", {"attempts": 3}, "attempts"),
    ("type", "reset", {"backoff": 7}, "backoff"),
    ("type", "", {}, "name"),
    ("type", "unheard-of", None, "name"),
    ("limit", "new", {"kind": "tenant", "most": 1}, "per"),
    ("limit", "new", {"kind": "tenant", "per": "1 h"}, "most"),
    ("limit", "new", {"most": 1, "per": "1 h"}, "kind"),
    ("limit", "new", {"kind": "planet", "most": 1, "per": "1 h"}, "kind"),
    ("limit", "new", {"kind": "tenant", "most": 0, "per": "1 h"}, "most"),
    ("limit", "new", {"kind": "tenant", "most": "many", "per": "1 h"}, "most"),
    ("limit", "new", {"kind": "tenant", "most": 1, "per": "0 s"}, "per"),
    ("limit", "new", {"kind": "tenant", "most": 1, "per": "1 y"}, "per"),
    ("limit", "new", {"kind": "tenant", "key": "", "most": 1, "per": "1 h"}, "key"),
    ("limit", "new", {"kind": "recipient", "key": "ada@example.org", "most": 1, "per": "1 h"}, "key"),
    ("limit", "new", {"kind": "provider_day", "key": "Ada@Example.org", "most": 1, "per": "1 h"}, "key"),
    ("limit", "new", {"kind": "provider_day", "key": "gmail.com", "most": 1, "per": "1 h"}, "key"),
    ("limit", "new", {"kind": "provider_minute", "key": "Yahoo.co.uk", "most": 1, "per": "1 h"}, "key"),
    ("limit", "new", {"kind": "provider_day", "key": "☃.example", "most": 1, "per": "1 h"}, "key"),
    ("limit", "new", {"kind": "queue", "key": "nowhere", "most": 1, "per": "1 h"}, "key"),
    ("limit", "new", {"kind": "provider_day", "key": "gmail", "most": 1, "per": "24 h"}, "key"),
    ("limit", "new", {"kind": "recipient", "most": 1, "per": "24 h"}, "key"),
    ("limit", "recipient", {"exempt_types": "reset"}, "exempt_types"),
    ("limit", "recipient", {"exempt_types": [7]}, "exempt_types"),
    ("limit", "account", {"exempt_types": ["reset"]}, "exempt_types"),
    ("limit", "recipient", {"pace": 0.5}, "pace"),
    ("limit", "account", {"pace": 2}, "pace"),
    ("limit", "recipient", {"per": None}, "per"),
    ("limit", "unheard-of", None, "name"),
]


@pytest.fixture(scope="module")
def untouched(server: str, template: str) -> Iterator[psycopg.Connection]:
    """One database for all that is refused: nothing may change in it."""
    for url in fresh_database(server, template):
        with psycopg.connect(url, autocommit=True) as conn:
            yield conn


@pytest.mark.parametrize(("kind", "name", "settings", "key"), NONSENSE)
def test_nonsense_is_refused_by_the_name_of_the_setting_and_changes_nothing(
    untouched, kind, name, settings, key
):
    before = (book(untouched), log(untouched))
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"^{key}: "):
        change(untouched, kind, name, settings)
    assert (book(untouched), log(untouched)) == before


class TestTheLog:
    def test_each_change_is_a_line_with_who_and_what(self, conn):
        change(conn, "queue", "marketing", {"priority": 20})
        conn.execute("select set_config('outboxd.operator', 'ada', false)")
        change(conn, "limit", "icloud_day", None)
        assert log(conn) == [
            ("set", "queue", "marketing", {"priority": {"from": 10, "to": 20}}),
            ("remove", "limit", "icloud_day", {
                "kind": {"from": "provider_day", "to": None}, "key": {"from": "icloud", "to": None},
                "most": {"from": 200, "to": None}, "per": {"from": "1 d", "to": None}}),
        ]  # fmt: skip
        (me,) = conn.execute("select session_user::text").fetchone()
        assert conn.execute("select who from outboxd.operator_log order by id").fetchall() == [
            (me,),
            (f"{me} for ada",),
        ]

    @pytest.mark.parametrize(
        "statement",
        [
            "update outboxd.operator_log set who = 'x'",
            "delete from outboxd.operator_log",
            "truncate outboxd.operator_log",
        ],
    )
    def test_a_line_is_never_changed_or_removed_even_by_its_owner(self, conn, statement):
        change(conn, "queue", "marketing", {"priority": 20})
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(statement)
        assert len(log(conn)) == 1


class TestTheVersion:
    @pytest.mark.parametrize(
        "statement",
        [
            "update outboxd.queue set priority = 2 where name = 'system'",
            "insert into outboxd.email_type (name) values ('welcome')",
            "delete from outboxd.limit_rule where name = 'recipient'",
            "truncate outboxd.limit_rule",
        ],
    )
    def test_any_change_of_policy_raises_it(self, conn, statement):
        before = version(conn)
        conn.execute(statement)
        assert version(conn) == before + 1

    def test_it_is_never_seen_before_the_change_itself(self, connect):
        operator, daemon = connect(), connect()
        before = version(daemon)
        operator.autocommit = False
        change(operator, "queue", "marketing", {"priority": 20})
        assert version(daemon) == before
        operator.commit()
        assert version(daemon) > before

    def test_inserting_email_does_not_touch_it(self, connect):
        operator, app = connect(), connect()
        operator.autocommit = False
        change(operator, "queue", "transactional", {"priority": 2})
        app.execute("set statement_timeout = '2s'")
        app.execute(
            "select outboxd.enqueue(%s::jsonb, 'x')",
            ('{"from": "a@b.co", "to": "c@d.co", "subject": "s", "text": "t"}',),
        )
        operator.rollback()


def test_two_operators_at_one_queue_both_get_their_change(connect):
    first, second, look = connect(), connect(), connect()
    first.autocommit = False
    change(first, "queue", "marketing", {"priority": 20})
    thread = threading.Thread(target=change, args=(second, "queue", "marketing", {"max_attempts": 9}))
    thread.start()
    waiting = "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s"
    until(lambda: look.execute(waiting, (second.info.backend_pid,)).fetchone()[0], what="the second to wait")
    first.commit()
    thread.join()
    assert [set(detail) for *_, detail in log(look)] == [{"priority"}, {"max_attempts"}]
    assert (
        book(look)["queues"]["marketing"] | {"priority": 20, "max_attempts": 9}
        == book(look)["queues"]["marketing"]
    )
