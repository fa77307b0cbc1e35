"""What the demo shows: asked from the database and from the local Resend's ledger, never from the shop's hopes."""

from dataclasses import dataclass
from typing import Any, Final

import psycopg

from outboxd.demo.shop import Ledger
from outboxd.sink.provider import Provider

ENDS: Final = """
select
  (select count(*) from outboxd.email) as committed,
  (select count(*) from outboxd.delivery where state = 'sent') as accepted,
  (select count(*) from outboxd.dead_letter where certainty = 'not_accepted') as dead,
  (select count(*) from outboxd.dead_letter where certainty = 'maybe_accepted') as unknown,
  (select count(*)
   from (select id, count(*) as failures from outboxd.attempt where outcome <> 'sent' group by id) as failed
   where failures > 1 or id in (select id from outboxd.delivery where state = 'sent')) as retried,
  (select count(*) from outboxd.ready) as waiting
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """One look. Times are in seconds."""

    shop: Ledger
    ends: dict[str, int]
    accepted_by_provider: int
    strangers: int
    duplicates: int
    throttled: int
    seconds: float

    def done(self, emails: int) -> bool:
        """Whether every email has ended."""
        ended = self.ends["accepted"] + self.ends["dead"] + self.ends["unknown"]
        return self.ends["committed"] >= emails and ended >= self.ends["committed"]

    def right(self, emails: int) -> bool:
        """Whether the promise held: exactly the poisoned are dead, all others accepted once, nothing rolled back sent."""
        return (
            self.ends["committed"] == emails
            and self.ends["dead"] == self.shop.poisoned
            and self.ends["unknown"] == 0
            and self.ends["accepted"] == self.accepted_by_provider == emails - self.shop.poisoned
            and self.duplicates == 0
            and self.strangers == 0
        )


def look(conn: psycopg.Connection[Any], shop: Ledger, provider: Provider, *, seconds: float) -> Figures:
    """Count."""
    cursor = conn.execute(ENDS)
    row = cursor.fetchone() or ()
    names = [column.name for column in cursor.description or []]
    summary = provider.summary()
    strangers = set(provider.accepted_by_uid) - shop.uids
    return Figures(
        shop=shop,
        ends=dict(zip(names, row, strict=True)),
        accepted_by_provider=int(str(summary["accepted"])),
        strangers=len(strangers),
        duplicates=int(str(summary["duplicates"])),
        throttled=provider.verdicts["limited"],
        seconds=seconds,
    )


def latencies(conn: psycopg.Connection[Any], provider: Provider) -> tuple[float, float]:
    """The median and the 99th percentile of seconds from the email's insert to its first acceptance."""
    born = {
        str(uid): at.timestamp()
        for uid, at in conn.execute("select uid, created_at from outboxd.email").fetchall()
    }
    waits = sorted(
        entry.at - born[uid]
        for entry in list(provider.entries)
        if entry.verdict == "new"
        for uid in entry.uids
        if uid in born
    )
    if not waits:
        return 0.0, 0.0
    return waits[len(waits) // 2], waits[min(len(waits) - 1, len(waits) * 99 // 100)]
