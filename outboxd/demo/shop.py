"""The sample shop: transactions that insert an order and its email together. Some of them roll back.

An application like any other: psycopg, its own table, `outboxd.enqueue` in its own transaction.
"""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import psycopg

from outboxd.client import enqueue
from outboxd.demo.mails import Order, order

TABLE: Final = "create table orders (number text primary key, customer text not null, item text not null)"
ROLLED_BACK: Final = 9  # every ninth transaction
LAST_SALE: Final = 5.0  # seconds
POISONED: Final = 3  # emails that the provider refuses for ever
FAULTS: Final = ("fault+500.1", "fault+503.2", "fault+accept-reset.1", "fault+html-502.1")


@dataclass(slots=True)
class Ledger:
    """What the shop knows: its own record of what it committed."""

    committed: int = 0
    rolled_back: int = 0
    poisoned: int = 0
    uids: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)


def open_shop(url: str) -> None:
    """Create the shop's own table."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(TABLE)


@contextmanager
def trading(
    url: str, emails: int, ledger: Ledger, *, clerks: int = 2, pace: float = 0.004
) -> Iterator[list[threading.Thread]]:
    """Sell until `emails` orders are committed or the shop closes, with several connections; the threads that do it."""
    plan = list(_plan(emails))
    shares: list[Sequence[tuple[Order, bool, bool]]] = [plan[clerk::clerks] for clerk in range(clerks)]
    threads = [
        threading.Thread(target=_sell, args=(url, share, ledger, pace), daemon=True) for share in shares
    ]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        ledger.closing.set()  # nobody sells while the database is taken away
        for thread in threads:
            thread.join(LAST_SALE)


def _plan(emails: int) -> "list[tuple[Order, bool, bool]]":
    """Orders, whether each commits, and whether its mail is poisoned; the same in every run."""
    dice = random.Random(7)  # noqa: S311 - a sample
    planned: list[tuple[Order, bool, bool]] = []
    committed = n = 0
    while committed < emails:
        n += 1
        commits = n % ROLLED_BACK != 0
        committed += commits
        poisoned = commits and committed in _places(emails)
        fault = "fault+422" if poisoned else _fault(committed, emails) if commits else None
        planned.append((order(n, dice, fault=fault), commits, poisoned))
    return planned


def _places(emails: int) -> set[int]:
    return {max(1, emails * part // (POISONED + 1)) for part in range(1, POISONED + 1)}


def _fault(committed: int, emails: int) -> str | None:
    """A provider's fault now and then; what is retried ends well."""
    every = max(10, emails // 12)
    return FAULTS[committed // every % len(FAULTS)] if committed % every == 5 else None  # noqa: PLR2004 - off the round numbers


def _sell(url: str, share: Sequence[tuple[Order, bool, bool]], ledger: Ledger, pace: float) -> None:
    with psycopg.connect(url) as conn:
        for sold, commits, poisoned in share:
            conn.execute("insert into orders values (%s, %s, %s)", (sold.number, sold.customer, sold.item))
            made = enqueue(conn, sold.email, type=sold.type, dedupe_key=f"{sold.type}:{sold.number}")
            if commits:
                conn.commit()
            else:
                conn.rollback()
            with ledger.lock:
                ledger.committed += commits
                ledger.rolled_back += not commits
                ledger.poisoned += poisoned
                if commits:
                    ledger.uids.add(str(made.uid))
            if ledger.closing.wait(pace):
                return
