"""The breaker as the settler feeds it: what the answers say of the provider, told to all daemons.

In the healthy case nothing is written and nothing is asked: only who saw a failure reports successes, until none is
held against the provider any more. Who opens it stops asking at once; others hear of it within a second.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from outboxd import metrics
from outboxd.core.address import sender_domain
from outboxd.core.breaker import Breaker, after, after_probe, gathered
from outboxd.core.outcome import Ambiguous, Failed
from outboxd.db import breaker, hold
from outboxd.db.hold import Waiter
from outboxd.db.pause import Probe
from outboxd.db.session import Connection
from outboxd.delivery.gates import stays
from outboxd.delivery.sender import UNTIL_PAUSED, Result

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Breakers:
    """For one account.

    `stop_asking(seconds)` keeps this daemon's senders quiet: until the claimer has heard of an opening, but no longer
    than until the first probe, which would else leave beside the second.
    """

    account: str
    stop_asking: Callable[[float], object]
    _held_against: bool = False

    def heard(self, conn: Connection, results: Sequence[Result]) -> None:
        """Tell what these answers say. Run once they are settled, so that no failure is told twice."""
        asked = [result for result in results if result.asked_at is not None]
        for result in results:
            if (probe := result.held.probe) is not None and probe.kind == "breaker":
                self._probed(conn, probe, result)
        news = gathered(result.outcome for result in asked)
        if news.failed or (news.healed and self._held_against):
            before, now = breaker.change(conn, self.account, lambda known, at: after(known, news, now=at))
            self._held_against = bool(now.failed_at)
            if now.state == "open" and before.state == "closed":
                self._opened(now)

    def forgiving(self, conn: Connection, results: Sequence[Result]) -> list[Result]:
        """The same results, with the time that they were held taken out of the time since their first failure."""
        failed = [
            (place, result, first_failed_at)
            for place, result in enumerate(results)
            if isinstance(result.outcome, Failed | Ambiguous)
            and (first_failed_at := (result.held.parcel.batch or result.held.parcel.first).first_failed_at)
        ]
        if not failed:
            return list(results)
        waiters = [
            Waiter(first.id, since, sender_domain(first.sender), batch.uid if batch else None)
            for _, result, since in failed
            for first, batch in [(result.held.parcel.first, result.held.parcel.batch)]
        ]
        forgiven = list(results)
        for (place, result, since), held in zip(
            failed, hold.held_since(conn, self.account, waiters), strict=True
        ):
            forgiven[place] = _failed_first_at(result, since + held) if held else result
        return forgiven

    def _probed(self, conn: Connection, probe: Probe, result: Result) -> None:
        if result.asked_at is None:
            if stays(result.outcome, result.members):  # a probe that is due at once would bring it again
                breaker.put_off_probe(conn, probe)
            else:
                breaker.release_probe(conn, probe)
            return
        _, now = breaker.change(
            conn, self.account, lambda known, at: after_probe(known, result.outcome, now=at)
        )
        if now.state == "closed":
            log.warning("the provider is well again: its breaker is closed", extra={"account": self.account})
        else:
            log.warning("the provider is still ill", extra={"account": self.account, "cause": now.cause})

    def _opened(self, now: Breaker) -> None:
        self.stop_asking(min(UNTIL_PAUSED, now.open_for.total_seconds()))
        metrics.breaker_openings.add(1)
        log.error(
            "the provider is ill: its breaker is open, nothing is asked but probes",
            extra={"account": self.account, "cause": now.cause},
        )


def _failed_first_at(result: Result, instant: datetime) -> Result:
    parcel = result.held.parcel
    if parcel.batch is not None:
        parcel = replace(parcel, batch=replace(parcel.batch, first_failed_at=instant))
    else:
        parcel = replace(parcel, emails=(replace(parcel.first, first_failed_at=instant),))
    return replace(result, held=replace(result.held, parcel=parcel))
