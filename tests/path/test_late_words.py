"""What is said between claim and ask counts, where more than a second lies between: suppressed, cancelled, paused."""

import contextlib
import select
import socket
import ssl
import threading
import time

import pytest
from certificates import SELF_SIGNED
from conftest_path import count, drained, only_once
from factories import insert, insert_many, payload, state_of, uid_of
from ledger import asked
from waiting import until

from outboxd.sink.options import Fault

pytestmark = [pytest.mark.path, pytest.mark.slow]


@pytest.fixture
def held_back(conn, sink, daemon):
    """The sink, and a daemon that may not ask it for anything: it said to wait for four seconds."""
    running = sink()
    running.provider.control({"faults": (Fault("429", argument=4),)})
    daemon(running.url, OUTBOXD_SENDER__THREADS="1", OUTBOXD_SENDER__LEASE="60s")
    insert_many(conn, 1, to="first@example.org")
    until(lambda: running.provider.verdicts["fault"] == 1, what="the provider to hold everything back")
    return running


@pytest.fixture
def in_hand(conn, held_back):
    """Five emails that a daemon has claimed and may not ask for. Those of them, all their ids, and the sink."""
    running = held_back
    conn.execute("update outboxd.queue set batch = false")
    ids = [insert(conn, body=payload(to=f"r{n}@example.org"), campaign="spring") for n in range(5)]
    until(lambda: count(conn, "lease", f"ids && '{{{','.join(map(str, ids))}}}'") > 0, what="emails in hand")
    running.provider.control({"faults": ()})
    held = [id_ for (id_,) in conn.execute("select unnest(ids) from outboxd.lease").fetchall() if id_ in ids]
    assert held
    return held, ids, running


def asked_late(conn, running, ids, said_at: float) -> list[str]:
    """Of these emails, those asked for more than a second after something was said about them."""
    uids = {str(uid_of(conn, id_)) for id_ in ids}
    return [uid for entry in asked(running) if entry.at > said_at + 1.0 for uid in entry.uids if uid in uids]


def test_who_is_suppressed_after_the_claim_is_not_asked_for(conn, in_hand):
    held, ids, running = in_hand
    for n, id_ in enumerate(ids):
        if id_ in held:
            conn.execute(
                "select outboxd.suppress(%s, 'spam_complaint', 'all', 'test')", (f"r{n}@example.org",)
            )
    said_at = time.time()
    until(lambda: drained(conn), within=30, what="all to end")
    assert {state_of(conn, id_) for id_ in held} == {"suppressed"}
    assert asked_late(conn, running, held, said_at) == []


def test_what_is_cancelled_after_the_claim_is_not_asked_for(conn, in_hand):
    held, _, running = in_hand
    for id_ in held:
        conn.execute("select outboxd.cancel(%s)", (uid_of(conn, id_),))
    said_at = time.time()
    until(lambda: drained(conn), within=30, what="all to end")
    assert {state_of(conn, id_) for id_ in held} == {"cancelled"}
    assert asked_late(conn, running, held, said_at) == []


class LateHandshake:
    """TLS before the local Resend; a handshake waits until it is let in."""

    def __init__(self, port: int) -> None:
        self.let_in, self.connected = threading.Event(), threading.Event()
        self._target = ("127.0.0.1", port)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(SELF_SIGNED)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connected.set()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self.let_in.wait(10)
        with (
            contextlib.suppress(OSError),
            socket.create_connection(self._target) as server,
            self._context.wrap_socket(client, server_side=True) as secure,
        ):
            while True:
                ready = [secure] if secure.pending() else select.select([secure, server], [], [])[0]
                for one in ready:
                    if not (data := one.recv(65536)):
                        return
                    (server if one is secure else secure).sendall(data)

    def close(self) -> None:
        self.let_in.set()
        self._listener.close()


def test_what_is_cancelled_while_its_sender_connects_is_not_asked_for(conn, sink, daemon):
    running = sink()
    with contextlib.closing(LateHandshake(int(running.url.rpartition(":")[2]))) as late:
        daemon(late.url, OUTBOXD_RESEND__CA_FILE=str(SELF_SIGNED), OUTBOXD_RESEND__DEADLINE="8s",
            OUTBOXD_SENDER__LEASE="60s", OUTBOXD_SENDER__THREADS="1")  # fmt: skip
        id_ = insert(conn)
        assert late.connected.wait(10)
        conn.execute("select outboxd.cancel(%s)", (uid_of(conn, id_),))
        said_at = time.time()
        until(lambda: time.time() > said_at + 1.1, what="more than a second")
        late.let_in.set()
        until(lambda: drained(conn), within=30, what="it to end")
        assert state_of(conn, id_) == "cancelled"
        insert(conn, body=payload(to="next@example.org"))
        until(lambda: running.provider.accepted_by_uid, what="the next email to be sent")
    assert [entry.to for entry in asked(running)] == [["next@example.org"]]


@pytest.mark.parametrize(("word", "state"), [("suppress", "suppressed"), ("cancel", "cancelled")])
def test_a_member_of_a_batch_that_is_taken_back_after_the_claim_is_not_asked_for_and_the_others_are_sent(
    conn, held_back, word, state
):
    with conn.transaction():
        ids = [insert(conn, body=payload(to=f"r{n}@example.org")) for n in range(5)]
    until(lambda: count(conn, "batch_member") == 5, what="a batch in hand")
    held_back.provider.control({"faults": ()})
    assert count(conn, "batch") == 1
    if word == "suppress":
        conn.execute("select outboxd.suppress('r2@example.org', 'spam_complaint', 'all', 'test')")
    else:
        conn.execute("select outboxd.cancel(%s)", (uid_of(conn, ids[2]),))
    said_at = time.time()
    until(lambda: drained(conn), within=30, what="all to end")
    assert [state_of(conn, id_) for id_ in ids] == ["sent", "sent", state, "sent", "sent"]
    assert asked_late(conn, held_back, [ids[2]], said_at) == []
    assert only_once(held_back)["accepted"] == 5, "four of the batch, and the first"


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("queue", "transactional"), ("type", "welcome"), ("campaign", "spring"), ("provider", "example.org"),
        ("domain", "shop.example"), ("account", "default"),
    ],
)  # fmt: skip
def test_what_is_paused_after_the_claim_waits_until_it_is_resumed(conn, in_hand, kind, key):
    _, ids, running = in_hand
    conn.execute("select outboxd.pause(%s, %s, 'a test')", (kind, key))
    said_at = time.time()
    until(lambda: count(conn, "lease") == 0, within=30, what="all to go back")
    until(lambda: time.time() > said_at + 5, what="the time that the provider wanted")
    assert asked_late(conn, running, ids, said_at) == []
    assert count(conn, "progress", "attempts > 0") == 0
    conn.execute("select outboxd.resume(%s, %s)", (kind, key))
    until(lambda: drained(conn), within=30, what="all to go")
    assert {state_of(conn, id_) for id_ in ids} == {"sent"}


def test_rule_4_what_its_lease_cannot_wait_for_goes_back_and_counts_as_no_crash(conn, sink, daemon):
    """The provider says to wait for longer than a lease lasts: nobody may take what is in hand for a crash."""
    running = sink()
    running.provider.control({"faults": (Fault("429", argument=12),)})
    conn.execute("update outboxd.queue set batch = false")
    daemon(
        running.url, OUTBOXD_SENDER__THREADS="1", OUTBOXD_SENDER__LEASE="11s", OUTBOXD_RESEND__DEADLINE="1s"
    )
    insert_many(conn, 1, to="first@example.org")
    until(lambda: running.provider.verdicts["fault"] == 1, what="the provider to hold everything back")
    insert_many(conn, 5)
    until(lambda: count(conn, "lease", "cardinality(ids) > 0") > 0, what="emails in hand")
    running.provider.control({"faults": ()})
    until(lambda: drained(conn), within=40, what="all to go")
    assert count(conn, "attempt", "outcome = 'lease_expired'") == 0
    assert count(conn, "delivery", "state = 'sent' and attempts = 1") == 6
