"""The clone fence: what is compared, what passes, and what becomes of the mail that waits."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from factories import HOME, batched, claim, claim_batches, insert, insert_many, settle, state_of, uid_of
from psycopg import errors

from outboxd.core.instance import Here, Known, differences, fingerprint
from outboxd.core.outcome import Ambiguous, Cancelled, Failure, Returned, Sent
from outboxd.db import batch, lease
from outboxd.db.adoption import adopt
from outboxd.db.fence import HELD, Fence, recorded
from outboxd.db.query import query
from outboxd.delivery.gates import judge
from outboxd.errors import DatabaseError

KEY = "re_production"
INSTANCE = UUID(int=7)
KNOWN = Known(INSTANCE, "production", "700", 16384, 2, (fingerprint(KEY, INSTANCE),))
HERE = Here("production", KEY, 16384, "700", 2)


def fence(environment: str = "production", key: str = KEY, **options) -> Fence:
    return Fence(environment, lambda: key, **options)


def run_adopt(url: str, pending: str, *, environment: str = "production", key: str = KEY):
    return adopt(url, pending, environment=environment, api_key=key, note=lambda _: None)


def held(conn: psycopg.Connection) -> int:
    return conn.execute("select count(*) from outboxd.ready where lane = %s", (HELD,)).fetchone()[0]


def stored(conn: psycopg.Connection, *, ambiguous: bool) -> list[int]:
    """A batch of three emails that was asked for once and waits to be asked again."""
    uid, ids = uuid4(), [insert(conn) for _ in range(3)]
    conn.execute("delete from outboxd.ready where id = any (%s)", (ids,))
    conn.execute(
        "insert into outboxd.batch (batch_uid, body, frozen, queue, lane, due_at, attempts, ambiguous, first_asked_at)"
        " values (%s, '[]', %s, 1, 0, clock_timestamp(), 1, %s, clock_timestamp())",
        (uid, lease.as_stored(HOME), ambiguous),
    )
    for place, id_ in enumerate(ids):
        conn.execute(
            "insert into outboxd.batch_member (id, batch_uid, place) values (%s, %s, %s)", (id_, uid, place)
        )
    return ids


def waiting(conn: psycopg.Connection) -> list:
    return [one for one in batch.waiting(conn, "default") if one.due_in <= 0]


class TestComparison:
    def test_the_same_database_does_not_differ(self):
        assert differences(KNOWN, HERE) == {}

    @pytest.mark.parametrize(
        ("fact", "value"),
        [
            ("environment", "staging"),
            ("api_key", "re_staging"),
            ("database_oid", 16385),
            ("system_identifier", "701"),
            ("timeline", 1),
        ],
    )
    def test_each_fact_alone_makes_it_another(self, fact, value):
        assert list(differences(KNOWN, replace(HERE, **{fact: value}))) == [fact]

    @pytest.mark.parametrize("fact", ["system_identifier", "timeline"])
    def test_what_a_server_does_not_tell_is_not_compared(self, fact):
        assert differences(KNOWN, replace(HERE, **{fact: None})) == {}
        assert differences(replace(KNOWN, **{fact: None}), HERE) == {}

    def test_a_higher_timeline_is_a_promotion_and_not_a_copy(self):
        assert differences(KNOWN, replace(HERE, timeline=3)) == {}

    def test_the_fingerprint_tells_nothing_outside_its_database(self):
        assert fingerprint(KEY, INSTANCE) != fingerprint(KEY, uuid4())
        assert KEY not in repr(HERE)


class TestDaemon:
    def test_the_first_daemon_makes_the_database_its_own_and_later_ones_pass(self, conn, connect):
        assert fence().admits(conn)
        assert fence().admits(connect())
        assert recorded(conn).environment == "production"

    @pytest.mark.parametrize("other", [{"environment": "staging"}, {"key": "re_staging"}])
    def test_another_environment_or_key_observes(self, conn, connect, other, caplog):
        fence().admits(conn)
        stranger = fence(**other)
        second = connect()
        assert not stranger.admits(second)
        assert not stranger.admits(connect())
        assert stranger.problem.startswith("observing: ")
        assert "outboxd adopt" in stranger.problem
        assert len([line for line in caplog.records if line.levelname == "ERROR"]) == 1

    def test_it_claims_again_once_adopted(self, database, conn, connect):
        fence().admits(conn)
        stranger = fence(environment="staging")
        assert not stranger.admits(connect())
        run_adopt(database, "send", environment="staging")
        assert stranger.admits(connect())
        assert stranger.problem is None
        assert not fence().admits(connect())

    def test_a_key_that_is_rotated_while_it_runs_passes_and_holds_for_its_peers(self, conn, connect):
        keys = [KEY]
        running = Fence("production", lambda: keys[-1])
        assert running.admits(conn)
        keys.append("re_rotated")
        assert running.admits(connect())
        assert fence(key="re_rotated").admits(connect())
        assert fence().admits(connect())

    def test_a_key_that_was_just_rotated_holds_for_a_restart_right_after_it(self, conn, connect):
        keys = [KEY]
        running = Fence("production", lambda: keys[-1])
        assert running.admits(conn)
        keys.append("re_rotated")
        running.key_changed()
        assert running.admits(conn)
        assert fence(key="re_rotated").admits(connect())

    def test_a_new_key_after_a_restart_is_not_a_rotation(self, conn, connect):
        assert fence().admits(conn)
        assert not fence(key="re_rotated").admits(connect())

    def test_it_works_where_the_server_does_not_tell_its_identifier(self, conn, connect):
        conn.execute("revoke execute on function pg_control_system() from public")
        plain = connect()
        plain.execute("set session authorization outboxd_daemon")
        with pytest.raises(errors.InsufficientPrivilege):
            plain.execute("select pg_control_system()")
        assert fence().admits(plain)
        assert recorded(conn).system_identifier is None
        assert not fence(environment="staging").admits(plain)

    def test_nobody_claims_what_is_held(self, conn):
        insert_many(conn, 3)
        conn.execute(
            "update outboxd.ready set lane = %s where id = (select min(id) from outboxd.ready)", (HELD,)
        )
        assert [one.lane for one in lease.slots(conn, "default")] == [0]
        assert len(claim(conn)) == 2


class TestFailover:
    def old_timeline(self, conn: psycopg.Connection) -> None:
        """As if the record came from a primary whose timeline was lower."""
        conn.execute("update outboxd.instance set timeline = 0")

    def looks(self, one: Fence, conn: psycopg.Connection) -> Iterator[None]:
        """Its looks that do not admit, until one does."""
        for _ in range(100):
            if one.admits(conn):
                return
            yield
        raise AssertionError("it never admits")

    @pytest.fixture
    def in_steps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Holding back takes many looks, which come at once."""
        monkeypatch.setattr("outboxd.db.fence.HOLD_ROUND", 0.0)
        monkeypatch.setattr("outboxd.db.fence.LOOK_OBSERVING", 0.0)

    def begun(self, conn: psycopg.Connection, there: psycopg.Connection) -> Fence:
        """Of a daemon that has begun to hold back the one email there is."""
        fence().admits(conn)
        insert(conn)
        self.old_timeline(conn)
        one = fence(hold=True)
        assert not one.admits(there)
        return one

    def test_a_risen_timeline_passes_with_one_line_and_is_noted(self, conn, connect, caplog):
        fence().admits(conn)
        insert(conn)
        self.old_timeline(conn)
        assert fence().admits(connect())
        assert recorded(conn).timeline == 1
        assert [line.message for line in caplog.records] == ["failover: the timeline rose"]
        assert held(conn) == 0

    def test_every_daemon_hears_when_it_rose_and_which_emails_there_were(self, conn, connect):
        early = fence()
        assert early.admits(conn)
        assert early.rise is None
        last = max(insert(conn), insert(conn))
        self.old_timeline(conn)
        first, second = fence(), fence()
        assert first.admits(connect())
        insert(conn)
        assert second.admits(connect())
        assert early.admits(connect())
        assert first.rise == second.rise == early.rise
        assert first.rise.last_id == last
        assert abs(conn.execute("select clock_timestamp()").fetchone()[0] - first.rise.at) < timedelta(
            minutes=1
        )

    def test_hold_keeps_all_that_was_due_however_long(self, conn, connect):
        """Backlog waits long before it is asked for, and the standby may have lost that it was."""
        fence().admits(conn)
        backlog, late, future = insert(conn), insert(conn), insert(conn)
        for id_, due in ((backlog, "-1 h"), (late, "-9 min"), (future, "1 h")):
            conn.execute(
                "update outboxd.ready set scheduled_at = clock_timestamp() + %s::interval where id = %s",
                (due, id_),
            )
        self.old_timeline(conn)
        first, second = fence(hold=True), fence(hold=True)
        assert first.admits(conn)
        assert second.admits(connect())
        assert [state_of(conn, id_) for id_ in (backlog, late, future)] == ["blocked", "blocked", "scheduled"]

    def test_backlog_whose_acceptance_was_lost_is_not_asked_for_until_adopted(self, database, conn):
        """The standby has it as it waited before its claim; a batch of it was accepted in what it lost."""
        fence().admits(conn)
        insert_many(conn, 3)
        conn.execute("update outboxd.ready set scheduled_at = clock_timestamp() - interval '15 min'")
        with conn.transaction(force_rollback=True):
            settle(conn, *((email, Sent("re_1")) for email in claim(conn)))
            assert conn.execute("select count(*) from outboxd.delivery").fetchone() == (3,)
        self.old_timeline(conn)
        assert fence(hold=True).admits(conn)
        assert claim(conn) == []
        assert run_adopt(database, "send").emails == 3

    @pytest.mark.usefixtures("in_steps")
    def test_hold_goes_on_in_lots_of_their_own_and_nothing_is_claimed_before_the_last(
        self, conn, connect, monkeypatch, caplog
    ):
        """A daemon may claim once all are held: by one of several, over as many looks as that takes."""
        monkeypatch.setattr("outboxd.db.fence.BLOCKS", 1)
        fence().admits(conn)
        insert_many(conn, 1000)
        self.old_timeline(conn)
        first, second, there = fence(hold=True), fence(hold=True), connect()
        assert not first.admits(there)
        assert "adopt" not in first.problem
        seen = []
        for _ in self.looks(first, there):
            assert recorded(conn).timeline == 0
            seen.append(held(conn))
        assert 0 < seen[0] < seen[-1] == 1000
        assert second.admits(connect())
        risen = [line for line in caplog.records if line.message == "failover: the timeline rose"]
        assert [line.held for line in risen] == [1000]

    def test_hold_that_is_cut_off_begins_anew_with_what_the_next_connection_finds(
        self, conn, connect, monkeypatch
    ):
        """It may lead to another standby, which had more."""
        monkeypatch.setattr("outboxd.db.fence.BLOCKS", 1)
        monkeypatch.setattr("outboxd.db.fence.HOLD_ROUND", 0.0)
        fence().admits(conn)
        insert_many(conn, 500)
        self.old_timeline(conn)
        cut = fence(hold=True)
        assert not cut.admits(connect())
        insert(conn)
        monkeypatch.setattr("outboxd.db.fence.HOLD_ROUND", 60.0)
        assert cut.admits(connect())
        assert held(conn) == 501

    def test_who_notes_a_failover_says_what_to_do_also_for_what_another_held_back(
        self, conn, connect, caplog
    ):
        """It was cut off before it came to note it."""
        fence().admits(conn)
        insert(conn)
        conn.execute("update outboxd.ready set lane = %s", (HELD,))
        self.old_timeline(conn)
        assert fence(hold=True).admits(connect())
        (line,) = [line for line in caplog.records if line.message == "failover: the timeline rose"]
        assert (line.held, line.then) == (0, "run `outboxd adopt` for what is held")

    @pytest.mark.usefixtures("in_steps")
    def test_adopt_ends_the_holding_back_that_it_meets(self, database, conn, connect, monkeypatch):
        """Else the daemon would take again what adopt lets go, and neither would end."""
        monkeypatch.setattr("outboxd.db.fence.BLOCKS", 1)
        fence().admits(conn)
        insert_many(conn, 500)
        self.old_timeline(conn)
        one, there = fence(hold=True), connect()
        while held(conn) == 0:
            assert not one.admits(there)
        with pytest.raises(DatabaseError, match="being held back"):
            run_adopt(database, "discard")
        assert 0 < run_adopt(database, "send").emails < 500
        assert one.admits(there)
        assert held(conn) == 0

    @pytest.mark.usefixtures("in_steps")
    def test_a_second_failover_begins_to_hold_back_anew(self, conn, connect):
        """Through a pooler the connection outlives it."""
        there = connect()
        one = self.begun(conn, there)
        insert(conn)
        one._walk.timeline = 0  # as if the server had been on another one when it began
        for _ in self.looks(one, there):
            pass
        assert held(conn) == 2

    @pytest.mark.usefixtures("in_steps")
    def test_a_failover_is_noted_as_of_when_holding_back_began(self, conn, connect):
        """What is cancelled meanwhile was cancelled after it."""
        there = connect()
        one = self.begun(conn, there)
        (begun,) = conn.execute("select clock_timestamp()").fetchone()
        for _ in self.looks(one, there):
            pass
        assert recorded(conn).risen_at <= begun

    @pytest.mark.usefixtures("in_steps")
    def test_hold_leaves_mail_that_comes_meanwhile(self, conn, connect):
        """However fast it comes, so that holding back ends."""
        fence().admits(conn)
        old = insert(conn)
        self.old_timeline(conn)
        one, there = fence(hold=True), connect()
        new = [insert(conn) for _ in self.looks(one, there)]
        assert state_of(conn, old) == "blocked"
        assert [email.id for email in claim(conn)] == new

    def test_hold_keeps_what_was_in_hand_too_alone_or_in_a_batch(self, conn, connect):
        """Its lease came over, and not what became of it."""
        fence().admits(conn)
        batched(conn, connect(), 2)
        insert(conn)
        claim(conn)
        self.old_timeline(conn)
        assert fence(hold=True).admits(connect())
        assert conn.execute("select count(*) from outboxd.lease").fetchone() == (0,)
        assert held(conn) == 1
        assert claim_batches(conn) == []
        assert claim(conn) == []

    def test_what_is_held_goes_when_it_is_released(self, database, conn):
        fence().admits(conn)
        insert_many(conn, 3)
        self.old_timeline(conn)
        fence(hold=True).admits(conn)
        assert held(conn) == 3
        assert run_adopt(database, "send").emails == 3
        assert len(claim(conn)) == 3

    def test_a_timeline_that_falls_while_it_runs_is_an_old_primary(self, conn, connect):
        running = fence()
        running.admits(conn)
        running._highest = 5
        assert not running.admits(connect())
        assert "old primary" in running.problem


class TestAdopt:
    @pytest.fixture
    def copied(self, conn) -> dict[str, int]:
        """A database of the original's with mail in every state that waits."""
        fence().admits(conn)
        ids = {name: insert(conn) for name in ("open", "leased", "waiting")}
        (asked,) = claim(conn, limit=1)
        settle(conn, (asked, Ambiguous(Failure("ambiguous", "time-out"))))
        claim(conn, limit=1)
        conn.execute("update outboxd.lease set lease_until = clock_timestamp() - interval '1 s'")
        return ids

    def states(self, conn, copied) -> list[str]:
        return [state_of(conn, id_) for id_ in copied.values()]

    def test_discard_ends_all_of_it_and_says_where_it_is_not_certain(self, database, conn, copied):
        done = run_adopt(database, "discard", environment="staging")
        assert done.emails == 3
        assert len(done.reasons) == 1
        assert self.states(conn, copied) == ["unknown", "unknown", "cancelled"]
        assert conn.execute("select count(*) from outboxd.progress").fetchone() == (0,)
        insert(conn)
        assert fence("staging").admits(conn)
        assert len(claim(conn)) == 1

    def test_hold_keeps_all_of_it_and_lets_new_mail_go(self, database, conn, copied):
        run_adopt(database, "hold", environment="staging")
        assert self.states(conn, copied) == ["blocked", "blocked", "blocked"]
        assert conn.execute(
            "select blocked, ready from outboxd.queue_status where queue = 'transactional'"
        ).fetchone() == (3, 0)
        new = insert(conn)
        assert [email.id for email in claim(conn)] == [new]
        assert conn.execute("select outboxd.cancel(%s)", (uid_of(conn, copied["waiting"]),)).fetchone() == (
            True,
        )
        assert run_adopt(database, "send", environment="staging").emails == 2
        assert held(conn) == 0

    @pytest.mark.usefixtures("copied")
    def test_on_our_own_database_it_touches_only_what_is_held(self, database, conn):
        assert run_adopt(database, "discard") == run_adopt(database, "hold")
        assert run_adopt(database, "discard").emails == 0
        assert conn.execute("select count(*) from outboxd.ready").fetchone() == (2,)

    @pytest.mark.usefixtures("copied")
    def test_it_works_with_the_daemons_rights(self, database):
        url = f"{database}&options=-c%20role%3Doutboxd_daemon"
        assert run_adopt(url, "hold", environment="staging").emails == 3
        assert run_adopt(url, "discard", environment="staging").emails == 3

    def test_batches_that_wait_are_held_released_and_discarded_whole(self, database, conn):
        fence().admits(conn)
        batches = {name: stored(conn, ambiguous=name == "open") for name in ("open", "plain")}
        run_adopt(database, "hold", environment="staging")
        ids = [id_ for members in batches.values() for id_ in members]
        assert {state_of(conn, id_) for id_ in ids} == {"blocked"}
        assert waiting(conn) == []
        run_adopt(database, "send", environment="staging")
        assert len(waiting(conn)) == 1
        assert run_adopt(database, "discard", environment="production").emails == 6
        assert [state_of(conn, id_) for id_ in ids] == ["unknown"] * 3 + ["cancelled"] * 3
        assert conn.execute("select count(*) from outboxd.batch_member").fetchone() == (0,)

    @pytest.mark.parametrize("ambiguous", [True, False])
    def test_discard_ends_as_sent_what_is_known_as_accepted(self, database, conn, ambiguous):
        fence().admits(conn)
        alone, members = insert(conn), stored(conn, ambiguous=ambiguous)
        if ambiguous:
            conn.execute(
                "insert into outboxd.progress (id, ambiguous, first_asked_at, frozen) values (%s, true, now(), '{}')",
                (alone,),
            )
        ids = [alone, *members]
        conn.execute(
            "insert into outboxd.word (id, kind, provider_id) select id, 'accepted', 're_' || id from unnest(%s) as id",
            (ids,),
        )
        assert run_adopt(database, "discard", environment="staging").emails == 4
        assert conn.execute(
            "select id, state, provider_id, reason from outboxd.delivery order by id"
        ).fetchall() == [(id_, "sent", f"re_{id_}", None) for id_ in ids]
        assert conn.execute("select count(*) from outboxd.dead_letter").fetchone() == (0,)
        assert conn.execute("select count(*) from outboxd.word").fetchone() == (0,)

    def test_discard_does_not_wait_for_a_cancel_that_is_said_again(self, database, conn, connect):
        fence().admits(conn)
        alone, members = insert(conn), stored(conn, ambiguous=True)
        (asked,) = claim(conn)
        settle(conn, (asked, Ambiguous(Failure("ambiguous", "time-out"))))
        app = connect()
        for id_ in (alone, members[0]):
            self.cancel(app, id_)
        app.autocommit = False
        for id_ in (alone, members[0]):
            self.cancel(app, id_)
        url = f"{database}&options=-c%20lock_timeout%3D1s"
        assert run_adopt(url, "discard", environment="staging").emails == len(members)
        app.rollback()
        assert alone not in members

    def cancel(self, conn: psycopg.Connection, id_: int) -> None:
        assert conn.execute("select outboxd.cancel(%s)", (uid_of(conn, id_),)).fetchone() == (False,)

    def test_after_a_failover_a_held_batch_is_taken_apart_where_who_releases_it_cancelled_a_member(
        self, database, conn
    ):
        """The provider's list has that member: it went another way, in seconds that a standby lost."""
        fence().admits(conn)
        went, other = stored(conn, ambiguous=True), stored(conn, ambiguous=True)
        self.cancel(conn, other[0])  # by an application, long before
        self.cancel(conn, went[1])
        conn.execute("update outboxd.instance set timeline = 0")
        assert fence(hold=True).admits(conn)
        self.cancel(conn, went[1])
        run_adopt(database, "send")
        found = {parcel.first.id: parcel for parcel in claim_batches(conn)}
        assert {first: parcel.batch.ambiguous for first, parcel in found.items()} == {
            went[0]: False, other[0]: True,
        }  # fmt: skip
        stopped = judge(found[went[0]], HOME, frozenset(), now=datetime.now(UTC))
        assert stopped.members == (Returned(), Cancelled(), Returned())
        assert judge(found[other[0]], HOME, frozenset(), now=datetime.now(UTC)) is None

    def test_in_a_copy_a_batch_with_an_open_answer_stays_as_it_is_whoever_cancels(self, database, conn):
        fence().admits(conn)
        ids = stored(conn, ambiguous=True)
        run_adopt(database, "hold", environment="staging")
        self.cancel(conn, ids[1])
        run_adopt(database, "send", environment="staging")
        assert [parcel.batch.ambiguous for parcel in claim_batches(conn)] == [True]

    def test_it_decides_in_bounded_lots(self, database, conn, monkeypatch):
        monkeypatch.setattr("outboxd.db.adoption.LOT", 7)
        monkeypatch.setattr("outboxd.db.fence.BLOCKS", 1)
        fence().admits(conn)
        insert_many(conn, 500)
        assert run_adopt(database, "hold", environment="staging").emails == 500
        assert run_adopt(database, "discard", environment="staging").emails == 500

    def test_held_mail_does_not_make_the_search_for_slots_dearer(self, conn):
        insert_many(conn, 2000)
        conn.execute("update outboxd.ready set lane = %s", (HELD,))
        plan = conn.execute(
            "explain (analyze, buffers, format json) " + query("ready/slots"),
            {"now": None, "account": "default", "probed_kind": None, "probed_key": None},
        ).fetchone()
        assert plan[0][0]["Plan"]["Shared Hit Blocks"] < 50
