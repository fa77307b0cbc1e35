"""Probes: one request in spite of one pause, and of no other; only an answer says that a pause is over."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from factories import (
    HOME,
    batched,
    claim,
    claim_batches,
    held,
    insert,
    insert_many,
    settle_parcel,
    settler_without_thread,
    slot,
)

from outboxd.core.batch import Parcel
from outboxd.core.outcome import Expired, Failed, Failure, Paused, Rejected, Returned, Sent, Throttled
from outboxd.core.pauses import plan
from outboxd.db import lease, pause
from outboxd.db.pause import Probe
from outboxd.db.session import Session
from outboxd.delivery import claimer as claiming
from outboxd.delivery.claimer import Claimer
from outboxd.delivery.gates import judge
from outboxd.delivery.hand import Hand
from outboxd.delivery.leasing import Leasing, lease_batches, lease_emails
from outboxd.delivery.sender import Result
from outboxd.delivery.settler import settle
from outboxd.delivery.steady import steady

KEY = Probe("account", "default", "key")
WRONG = Failure("message", "Invalid `to` field.", "validation_error", 422)


def begin(conn, reason: str = "key", *, kind: str = "account", key: str = "default") -> None:
    assert pause.begin(
        conn,
        kind,
        key,
        reason=reason,
        detail="Invalid `to` field.",
        lasts=None,
        probe_every=timedelta(minutes=1),
    )


def paused(conn) -> set:
    return set(conn.execute("select kind, key from outboxd.pause").fetchall())


def answered(conn, email, outcome, probe: Probe, *, asked: bool = True, settler=None) -> None:
    holder = held(email)
    holder.probe = probe
    result = Result(holder, outcome, steady() if asked else None)
    settle(settler or settler_without_thread(), conn, [result])


def without_threads() -> Leasing:
    settler = settler_without_thread()
    return Leasing(Hand(100), settler, settler.admission, uuid4(), HOME, timedelta(seconds=60), bool)


def reported(settler) -> list[Result]:
    return [settler.inbox.get() for _ in range(settler.inbox.qsize())]


@pytest.mark.parametrize(("away", "due"), [("50 s", False), ("10 min", True)])
def test_a_clock_that_went_back_does_not_put_a_pause_s_probe_off(conn, away, due):
    begin(conn)
    conn.execute("update outboxd.pause set probe_at = clock_timestamp() + %s::interval", (away,))
    assert (pause.take_probe(conn, "default") is not None) == due


@pytest.mark.parametrize(
    "outcome",
    [
        Rejected(Failure("payload_missing", "the email's row is gone")),
        Rejected(WRONG),
        Sent("re_1"),
        Returned(),
    ],
)
def test_a_probe_that_asked_nothing_lifts_nothing(conn, outcome):
    insert(conn)
    begin(conn)
    (email,) = claim(conn, probe=KEY)
    answered(conn, email, outcome, KEY, asked=False)
    assert paused(conn) == {("account", "default")}


@pytest.mark.parametrize("every", ["1 min", "1 h"], ids=["doubles", "never longer"])
def test_a_probe_that_asked_nothing_is_due_again_at_once(conn, every):
    """Mail that expired meanwhile stands in front: it must not use up the probes of a key that works again."""
    insert(conn, expires_at=datetime.now(UTC) + timedelta(hours=1))
    begin(conn)
    conn.execute(
        "update outboxd.pause set probe_at = now() - interval '1 s', probe_every = %s::interval", (every,)
    )
    probe = pause.take_probe(conn, "default")
    assert pause.take_probe(conn, "default") is None
    (email,) = claim(conn, probe=probe)
    answered(conn, email, Expired(), probe, asked=False)
    assert pause.take_probe(conn, "default") == probe
    assert conn.execute("select probe_every <= 2 * %s::interval from outboxd.pause", (every,)).fetchone() == (
        True,
    )


def test_a_probe_that_was_answered_lifts_its_pause(conn):
    insert(conn)
    begin(conn)
    (email,) = claim(conn, probe=KEY)
    answered(conn, email, Sent("re_1"), KEY)
    assert paused(conn) == set()


@pytest.mark.parametrize(("mended_in", "due"), [(-60.0, False), (60.0, True)], ids=["before", "after"])
def test_a_refusal_of_what_was_mended_since_is_probed_at_once(conn, mended_in, due):
    """The answer to the old key comes after the new one was read."""
    insert(conn)
    (email,) = claim(conn)
    settler = settler_without_thread()
    settler.pauses.mended_at = steady() + mended_in
    refusal = Paused(Failure("account", "API key is invalid", "validation_error", 401), reason="key")
    result = Result(held(email), refusal, steady())
    settle(settler, conn, [result])
    assert paused(conn) == {("account", "default")}
    assert (pause.take_probe(conn, "default") is not None) == due


class TestEqualMessageErrors:
    probe = Probe("account", "default", "message_errors", "Invalid `to` field.")

    def test_one_more_of_them_is_no_proof_for_a_daemon_that_did_not_see_the_others(self, conn):
        insert(conn)
        begin(conn, "message_errors")
        (email,) = claim(conn, probe=KEY)
        answered(conn, email, Rejected(WRONG), self.probe)
        assert paused(conn) == {("account", "default")}
        assert conn.execute("select count(*) from outboxd.dead_letter").fetchone() == (0,)

    def test_another_error_is(self, conn):
        insert(conn)
        begin(conn, "message_errors")
        (email,) = claim(conn, probe=KEY)
        answered(conn, email, Rejected(replace(WRONG, message="Missing `html` field.")), self.probe)
        assert paused(conn) == set()

    def test_the_probe_that_is_taken_knows_the_error(self, conn):
        begin(conn, "message_errors")
        conn.execute("update outboxd.pause set probe_at = clock_timestamp()")
        assert pause.take_probe(conn, "default") == self.probe


def test_a_probe_that_is_refused_in_unknown_words_ends_nothing(conn):
    """It may be about the account, which is paused: each email that waits would be probed to its death."""
    insert(conn)
    begin(conn)
    no = Failed(Failure("unexpected", "Closed.", "account_closed", 403), transient=False)
    for _ in range(3):
        conn.execute("update outboxd.ready set scheduled_at = clock_timestamp() - interval '1 s'")
        (email,) = claim(conn, probe=KEY)
        answered(conn, email, no, KEY)
    assert conn.execute(
        "select count(*), max(attempts) from outboxd.ready join outboxd.progress using (id)"
    ).fetchone() == (1, 0)
    assert paused(conn) == {("account", "default")}


def test_releases_of_one_probe_leave_it_an_interval(conn):
    """What was settled is written again where the connection is lost."""
    begin(conn, "message_errors")
    conn.execute("update outboxd.pause set probe_every = '15 s'")
    for _ in range(40):
        pause.release_probe(conn, KEY)
    assert conn.execute("select probe_every from outboxd.pause").fetchone() == (timedelta(seconds=15),)


UNKNOWN = Failed(Failure("unexpected", "I am a teapot.", "teapot", 418), transient=False)
WRONG_PLACE = Rejected(Failure("bug", "The requested endpoint does not exist", "not_found", 404))


@pytest.mark.parametrize(
    ("emails", "no", "dead"), [(4, UNKNOWN, 0), (5, UNKNOWN, 0), (4, WRONG_PLACE, 4), (5, WRONG_PLACE, 4)]
)
def test_five_alike_in_unknown_words_or_at_the_wrong_place_are_the_accounts(conn, emails, no, dead):
    for _ in range(emails):
        insert(conn)
    settler = settler_without_thread()
    settle(settler, conn, [Result(held(email), no, steady()) for email in claim(conn)])
    assert paused(conn) == ({("account", "default")} if emails == 5 else set())
    assert conn.execute("select count(*) from outboxd.dead_letter").fetchone() == (dead,)


def test_a_daily_quota_holds_until_midnight_of_the_servers_clock_and_no_longer(conn):
    night = datetime(2026, 6, 1, 23, 50, tzinfo=UTC)
    planned = plan("daily_quota", now=night, draw=lambda: 0.999)
    id_ = insert(conn)
    conn.execute("update outboxd.ready set scheduled_at = %s", (night,))
    assert pause.begin(
        conn, "account", "default", reason="daily_quota", detail="x", lasts=planned.lasts,
        probe_every=planned.probe_every, now=night,
    )  # fmt: skip
    midnight = datetime(2026, 6, 2, tzinfo=UTC)
    assert claim(conn, now=midnight - timedelta(seconds=1)) == []
    assert claim(conn, now=midnight) == []
    assert [email.id for email in claim(conn, now=midnight + timedelta(seconds=31))] == [id_]


def test_of_the_parts_of_a_rejected_batch_one_is_the_probe_and_the_others_wait_on(conn, connect):
    settle_parcel(conn, batched(conn, connect(), 9), Rejected(WRONG))
    begin(conn)
    leasing = without_threads()
    settler, hand = leasing.settler, leasing.hand
    assert lease_batches(leasing, conn, limit=1, probe=KEY) == 1
    (probing,) = hand.close()
    assert (len(probing.parcel.emails), probing.probe) == (2, KEY)
    others = [settler.inbox.get() for _ in range(3)]
    assert [one.held.probe for one in others] == [None] * 3
    settle(settler, conn, others)
    back = conn.execute("select id, scheduled_at from outboxd.ready order by id").fetchall()
    assert back == sorted(
        (email.id, email.scheduled_at) for one in others for email in one.held.parcel.emails
    )
    assert conn.execute("select count(*) from outboxd.batch").fetchone() == (1,)


class TestOneThatWasStopped:
    """The next one looks further, past all that may not go."""

    @pytest.fixture
    def leasing(self, conn) -> Leasing:
        insert_many(conn, 30)
        conn.execute("update outboxd.email set expires_at = clock_timestamp() - interval '1 s'")
        begin(conn)
        leasing = without_threads()
        assert len(lease_emails(leasing, conn, [slot()], 100, probe=KEY)) == 30
        return leasing

    def test_one_of_all_that_were_stopped_gives_it_back_and_is_the_last(self, leasing):
        results = reported(leasing.settler)
        assert [result.held.probe for result in results] == [None] * 29 + [KEY]
        assert {type(result.outcome) for result in results} == {Expired}
        assert leasing.stopped_probe

    def test_the_first_that_may_go_is_the_probe_and_the_rest_waits_where_it_stood(self, conn, leasing):
        settle(leasing.settler, conn, reported(leasing.settler))
        (gone, *good) = [insert(conn) for _ in range(8)]
        conn.execute("update outboxd.email set expires_at = now() - interval '1 s' where id = %s", (gone,))
        before = conn.execute("select id, scheduled_at from outboxd.ready order by id").fetchall()
        assert len(lease_emails(leasing, conn, [slot()], 100, probe=KEY)) == 8
        (probing,) = leasing.hand.close()
        assert ([email.id for email in probing.parcel.emails], probing.probe) == (good[:1], KEY)
        assert not leasing.stopped_probe
        results = reported(leasing.settler)
        assert {result.held.probe for result in results} == {None}, "it is still under way"
        settle(leasing.settler, conn, results)
        after = conn.execute("select id, scheduled_at from outboxd.ready order by id").fetchall()
        assert after == before[2:]
        assert conn.execute("select max(attempts) from outboxd.progress").fetchone() == (None,)
        assert conn.execute("select max(crash_streak) from outboxd.progress").fetchone() == (None,)


def test_a_probe_that_finds_no_mail_leaves_its_pause_s_interval(conn):
    """Else a domain that was mended is found to be well the later, the longer nobody sent from it."""
    insert(conn)
    conn.execute("select outboxd.pause('queue', 'transactional', 'a person said so')")
    begin(conn, kind="domain", key="shop.example")
    leasing = without_threads()
    stop = leasing.settler.give_up
    one = Claimer(Session("", "claimer", stop=stop), None, leasing, need=1.0, stop=stop, fence=None)
    for _ in range(5):
        conn.execute("update outboxd.pause set probe_at = clock_timestamp() where kind = 'domain'")
        claiming._scan_from_head(one, conn)
        assert one.probe == Probe("domain", "shop.example", "key", "Invalid `to` field.")
        assert not claiming._fill(one, conn, 100)
    found = conn.execute(
        "select probe_every, probe_at > clock_timestamp() + interval '50 s' from outboxd.pause"
        " where kind = 'domain'"
    )
    assert found.fetchone() == (timedelta(minutes=1), True)


class TestOtherPausesStand:
    def test_a_probe_of_the_account_is_stopped_by_a_paused_queue_and_account(self, conn):
        insert(conn)
        (email,) = claim(conn)
        both = frozenset({("account", "default"), ("queue", "transactional")})
        assert judge(Parcel((email,)), HOME, both, now=email.claimed_at, probe=KEY) is not None
        one = frozenset({("account", "default")})
        assert judge(Parcel((email,)), HOME, one, now=email.claimed_at, probe=KEY) is None
        domain = Probe("domain", "shop.example", "domain")
        assert judge(Parcel((email,)), HOME, one, now=email.claimed_at, probe=domain) is not None

    def test_a_probe_of_the_account_finds_no_slot_of_a_paused_queue(self, conn):
        insert(conn)
        begin(conn)
        assert [one.closed for one in lease.slots(conn, "default")] == [True]
        assert [one.closed for one in lease.slots(conn, "default", probe=KEY)] == [False]
        conn.execute("select outboxd.pause('queue', 'transactional', 'a person said so')")
        assert [one.closed for one in lease.slots(conn, "default", probe=KEY)] == [True]

    def test_a_probe_of_the_account_takes_no_batch_of_a_paused_queue(self, conn, connect):
        settle_parcel(conn, batched(conn, connect(), 2), Throttled(Failure("throttle", "429"), timedelta()))
        conn.execute("update outboxd.batch set due_at = clock_timestamp()")
        conn.execute("select outboxd.pause('queue', 'transactional', 'a person said so')")
        begin(conn)
        assert claim_batches(conn, probe=KEY) == []
        conn.execute("select outboxd.resume('queue', 'transactional')")
        assert len(claim_batches(conn, probe=KEY)) == 1
