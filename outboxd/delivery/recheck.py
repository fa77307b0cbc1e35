"""What waits in hand for longer than an answer of the gates is good for: they are asked again, about all of it at once."""

from outboxd.core.outcome import Returned
from outboxd.db import suppression, word
from outboxd.db.session import Connection
from outboxd.delivery.gates import Stopped, cancel, judge, news
from outboxd.delivery.hand import Held
from outboxd.delivery.leasing import Leasing
from outboxd.delivery.sender import Result
from outboxd.delivery.steady import steady


def recheck(leasing: Leasing, conn: Connection, need: float) -> None:
    """Ask the gates again about all in hand where their answer gets old; return what its lease can't wait for."""
    for held in leasing.hand.remove_short(need):
        leasing.settler.report(Result(held, Returned()))
    old = leasing.hand.stale()
    if not old:
        return
    asked_at, home = steady(), leasing.home
    provider_of = leasing.admission.provider_of
    ids = [email.id for held in old for email in held.parcel.emails]
    cancelled, paused = word.since_claim(conn, ids)
    unwanted = suppression.among_now(conn, ids)
    _, refused = leasing.admission.grant(conn, [held.parcel for held in old])
    leasing.exempt.saw(refused, leasing.admission.policies.limits)
    limited = {parcel.first.id: stopped for parcel, stopped in refused}

    def verdict(held: Held) -> Stopped | None:
        found = judge(held.parcel, home, paused, now=held.now(), provider_of=provider_of, probe=held.probe)
        if (
            found is None
            and not held.parcel.open
            and any(news(email, unwanted) for email in held.parcel.emails)
        ):
            return Stopped(Returned())  # the next claim looks at it with what is known now
        return found or limited.get(held.parcel.first.id)

    def stopped(held: Held) -> bool:
        held.parcel = cancel(held.parcel, cancelled)
        return verdict(held) is not None

    for held in leasing.hand.refresh(old, asked_at, stopped):
        if (found := verdict(held)) is not None:
            leasing.settler.report(Result(held, found.outcome, members=found.members))
