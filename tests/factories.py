"""Valid rows; a test names only what matters to it."""

import json
from typing import Any
from uuid import UUID, uuid4

import psycopg

from outboxd.core.email import Frozen
from outboxd.db.lease import Slot

HOME = Frozen(1, "outboxd_uid", "default", "http://127.0.0.1:1")


def payload(**fields: Any) -> dict[str, Any]:
    body = {
        "from": "Shop <hi@shop.example>",
        "to": "ada@example.org",
        "subject": "Hello",
        "html": "<p>Hi</p>",
    }
    return {name: value for name, value in (body | fields).items() if value is not None}


def insert(
    conn: psycopg.Connection, *, type: str = "welcome", body: dict[str, Any] | None = None, **columns: Any
) -> int:
    """Insert one email as an application does; its id."""
    names = ["type", "payload", *columns]
    values = [type, json.dumps(body or payload()), *columns.values()]
    statement = f"insert into outboxd.email ({', '.join(names)}) values ({', '.join(['%s'] * len(names))}) returning id"
    return conn.execute(statement, values).fetchone()[0]


def insert_many(
    conn: psycopg.Connection, count: int, *, type: str = "welcome", to: str = "ada@example.org"
) -> None:
    conn.execute(
        "insert into outboxd.email (type, payload) select %s, %s::jsonb from generate_series(1, %s)",
        (type, json.dumps(payload(to=to)), count),
    )


def uid_of(conn: psycopg.Connection, id_: int) -> UUID:
    return conn.execute("select uid from outboxd.email where id = %s", (id_,)).fetchone()[0]


def state_of(conn: psycopg.Connection, id_: int) -> str | None:
    return conn.execute("select state from outboxd.email_status where id = %s", (id_,)).fetchone()[0]


def slot(queue: int = 1, lane: int = 0, priority: int = 1) -> Slot:
    return Slot(queue, lane, priority)


def claim(conn: psycopg.Connection, *, limit: int = 10, lease_id: UUID | None = None, **options: Any) -> list:
    """Claim from the transactional queue as the daemon does: fresh mail, and what was asked for before."""
    from datetime import timedelta

    from outboxd.db import lease

    retries = conn.execute("select id from outboxd.lane where kind = 'retries'").fetchall()
    wanted = options.pop("wanted", [slot(), *(slot(lane=lane) for (lane,) in retries)])
    ttl = options.pop("ttl", timedelta(seconds=60))
    home = options.pop("frozen", HOME)
    lease_id = lease_id or uuid4()
    found = lease.claim(
        conn, wanted, lease_id=lease_id, worker=uuid4(), frozen=home, ttl=ttl, limit=limit, **options
    )
    return found.emails


def held(*emails: Any, batch: Any = None) -> Any:
    """What the hand holds of these emails: one parcel."""
    from outboxd.core.batch import Parcel
    from outboxd.delivery.hand import Held
    from outboxd.delivery.steady import steady

    now = steady()
    return Held(Parcel(emails, batch), now, now + 60, now)


def settler_without_thread() -> Any:
    """A settler whose `settle` a test calls itself, on a connection of its own."""
    import queue
    import threading

    from outboxd.core.provider import Provider
    from outboxd.db.policy import Policies
    from outboxd.db.session import Session
    from outboxd.delivery.admission import Admission
    from outboxd.delivery.breakers import Breakers
    from outboxd.delivery.pauses import Pauses
    from outboxd.delivery.settler import Settler

    stop = threading.Event()
    policies = Policies()
    return Settler(
        session=Session("", "settler", stop=stop),
        policies=policies,
        admission=Admission(policies, lambda domain: Provider(domain, domain)),
        pauses=Pauses(HOME.account),
        breakers=Breakers(HOME.account, lambda _: None),
        give_up=stop,
        inbox=queue.SimpleQueue(),
        wake=lambda: None,
    )


def judged(email: Any, home: Any = HOME) -> Any:
    """What the gates say of one email at its claim: None where it may go."""
    from outboxd.core.batch import Parcel
    from outboxd.delivery.gates import judge

    stopped = judge(Parcel((email,)), home, frozenset(), now=email.claimed_at)
    return stopped and stopped.outcome


def batched(
    conn: psycopg.Connection,
    daemon: psycopg.Connection,
    emails: int,
    *,
    to: str = "reader-{n}@example.org",
    **options: Any,
) -> Any:
    """Insert emails, claim them with `daemon`, and bind them into one stored batch: its parcel."""
    from outboxd.core.batch import Batch, Parcel, packed
    from outboxd.db import batch
    from outboxd.delivery.sender import rendered

    for n in range(emails):
        insert(conn, body=payload(to=to.format(n=n)))
    members = tuple(claim(daemon, limit=emails, **options))
    assert len(members) == emails
    parcel = Parcel(members, Batch(uuid4(), packed([rendered(email) for email in members]), HOME))
    assert batch.repack(daemon, members[0].lease_id, [parcel]) == {parcel.batch.uid}
    return parcel


def claim_batches(conn: psycopg.Connection, *, limit: int = 10, home: Any = HOME, **options: Any) -> list:
    """Claim stored batches as the daemon does."""
    from datetime import timedelta

    from outboxd.db import batch

    ttl = options.pop("ttl", timedelta(seconds=60))
    found, _ = batch.claim(conn, lease_id=uuid4(), worker=uuid4(), home=home, ttl=ttl, limit=limit, **options)
    return found


def settle_parcel(conn: psycopg.Connection, parcel: Any, outcome: Any, **result: Any) -> bool:
    """Settle one parcel as the daemon does; whether something went back."""
    from outboxd.delivery.sender import Result
    from outboxd.delivery.settler import settle as settle_results
    from outboxd.delivery.steady import steady

    result.setdefault("asked_at", steady())
    holder = held(*parcel.emails, batch=parcel.batch)
    return settle_results(settler_without_thread(), conn, [Result(holder, outcome, **result)])


def settlement(email: Any, outcome: Any, *, asked_ago: float | None = 0.05) -> Any:
    from datetime import timedelta

    from outboxd.core.retry import Policy, decide
    from outboxd.db.lease import Settlement

    policy = Policy(3, "fixed", timedelta(seconds=5), timedelta())
    step = decide(outcome, email, policy, now=email.claimed_at, draw=lambda: 0.5)
    return Settlement(email, step, asked_ago, lane=email.lane)


def settle(conn: psycopg.Connection, *pairs: Any, asked_ago: float | None = 0.05) -> dict:
    """Settle (email, outcome) pairs as the daemon does."""
    from outboxd.db import lease

    return lease.settle_if_leased(
        conn, [settlement(email, outcome, asked_ago=asked_ago) for email, outcome in pairs]
    )
