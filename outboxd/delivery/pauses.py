"""What an outcome says about more than its own email becomes a pause; a probe that succeeds ends one.

Used by the settler, before it settles: a pause is committed before the emails that it holds are back in `ready`.
Where somebody's open transaction holds it, it is left as it is after a moment: outcomes do not wait for an operator.
"""

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from outboxd import metrics
from outboxd.core.address import sender_domain
from outboxd.core.batch import Rise
from outboxd.core.outcome import Failed, Failure, Outcome, Paused, Rejected, Sent, SentAll
from outboxd.core.pauses import Streak, after_error, after_success, plan
from outboxd.core.retry import Step
from outboxd.core.signature import signature
from outboxd.db import pause
from outboxd.db.pause import Probe
from outboxd.db.session import Connection, LockTimeoutError
from outboxd.delivery.sender import Result

log = logging.getLogger(__name__)

Park = tuple[str, str]


@dataclass(slots=True)
class Pauses:
    """For one account; remembers the row of equal message errors and the lanes that exist.

    Lanes are forgotten with the connection, and where `rise` tells of a failover (a pooler's connection outlives it): a
    standby may have lost a lane, and give its id to another.
    `mended_at` is when somebody last may have mended what is refused (`steady`): a new key was read.
    """

    account: str
    mended_at: float = 0.0
    rise: Callable[[], Rise | None] = lambda: None
    _streak: Streak = field(default_factory=Streak)
    _lanes: dict[Park, int] = field(default_factory=dict)
    _lanes_of: tuple[Connection | None, Rise | None] = (None, None)

    def heard(self, conn: Connection, results: Sequence[Result]) -> list[Result]:
        """Pause what the provider refuses as a whole, lift what a probe found to be over.

        A message error that is one of too many alike comes back as the account's, and burns nothing.
        """
        busy: set[Park] = set()
        return [self._heard(conn, result, busy) for result in results]

    def _heard(self, conn: Connection, result: Result, busy: set[Park]) -> Result:
        outcome = result.outcome
        if result.asked_at is not None:
            outcome = self._suspected(result, outcome)
        if isinstance(outcome, Paused):
            with _unless_held(self._refused(result, outcome), busy) as free:
                if free:
                    self._begin(conn, result, outcome)
        elif result.held.probe is not None and result.asked_at is not None and _says_well(outcome):
            with _unless_held((result.held.probe.kind, result.held.probe.key), busy) as free:
                if free:
                    self._lift(conn, result)
        return replace(result, outcome=outcome)

    def lanes(self, conn: Connection, steps: Iterable[Step]) -> dict[Park, int]:
        """The lanes in which what is parked waits; one that a limit holds is closed as long as that."""
        if (now := (conn, self.rise())) != self._lanes_of:
            self._lanes, self._lanes_of = {}, now
        until: dict[Park, datetime | None] = {}
        for step in steps:
            if step.park is not None:
                known = until.get(step.park)
                until[step.park] = max(filter(None, (known, step.free_at)), default=None)
        for park, free_at in sorted(until.items()):
            if free_at is not None or park not in self._lanes:
                self._lanes[park] = pause.lane(conn, *park, closed_until=free_at)
        return self._lanes

    def _suspected(self, result: Result, outcome: Outcome | SentAll) -> Outcome | SentAll:
        if isinstance(outcome, Sent | SentAll):
            self._streak = after_success(self._streak)
        elif (failure := _blames_the_message(outcome)) is not None:
            emails = frozenset(email.id for email in result.held.parcel.emails)
            self._streak = after_error(self._streak, signature(failure), emails)
            if self._streak.enough or _one_more(result.held.probe, failure):
                return Paused(failure, reason="message_errors")
        return outcome

    def release(self, conn: Connection, results: Iterable[Result]) -> bool:
        """Give back the probes that were stopped before they asked: the next email is the probe. Whether there were any.

        Once they are settled; a breaker takes its own back.
        """
        probes = [result.held.probe for result in results if result.held.probe and result.asked_at is None]
        busy: set[Park] = set()
        for probe in probes:
            if probe.kind != "breaker":
                with _unless_held((probe.kind, probe.key), busy) as free:
                    if free:
                        pause.release_probe(conn, probe)
        return bool(probes)

    def _refused(self, result: Result, refusal: Paused) -> Park:
        if refusal.scope == "account":
            return refusal.scope, self.account
        return refusal.scope, sender_domain(result.held.parcel.first.sender)

    def _begin(self, conn: Connection, result: Result, refusal: Paused) -> None:
        failure = refusal.failure
        kind, key = self._refused(result, refusal)
        planned = plan(refusal.reason, now=result.held.now(), draw=random.random)
        begun = pause.begin(
            conn, kind, key, reason=refusal.reason, detail=failure.message, lasts=planned.lasts,
            probe_every=planned.probe_every,
        )  # fmt: skip
        if begun:
            metrics.pauses.add(1, {"kind": kind, "reason": refusal.reason})
            log.error(
                "paused: the provider refuses this %s",
                kind,
                extra={
                    "kind": kind,
                    "key": key,
                    "reason": refusal.reason,
                    "error": failure.name,
                    "status": failure.status,
                }
                | ({"until": (result.held.now() + planned.lasts).isoformat()} if planned.lasts else {}),
            )
        if result.asked_at is not None and result.asked_at < self.mended_at:
            pause.probe_now(conn, self.account)  # the answer to what is mended already may come after it

    def _lift(self, conn: Connection, result: Result) -> None:
        probe = result.held.probe
        assert probe is not None
        paused = {(probe.kind, probe.key)}
        for kind, key in pause.lift(conn, paused):
            log.warning(
                "resumed: a probe was accepted", extra={"kind": kind, "key": key, "reason": probe.reason}
            )


@contextmanager
def _unless_held(paused: Park, busy: set[Park]) -> Iterator[bool]:
    """Go on where the pause's row is held; `busy` keeps which, so that one batch waits for it once. Whether to try."""
    try:
        yield paused not in busy
    except LockTimeoutError:
        busy.add(paused)
        log.warning(
            "a pause is held by an open transaction; settling without it", extra={"pause": ":".join(paused)}
        )


def _blames_the_message(outcome: Outcome | SentAll) -> Failure | None:
    """The error that an email's own content may have, or that only looks so: what many have alike is the account's."""
    match outcome:
        case Rejected(failure) if failure.kind in {"message", "bug"}:
            return failure
        case Failed(failure) if outcome.in_unknown_words:
            return failure
        case _:
            return None


def _one_more(probe: Probe | None, failure: Failure) -> bool:
    """Whether it is the error that a probe was to find gone, though another daemon may have counted the others."""
    if probe is None or probe.reason != "message_errors" or probe.detail is None:
        return False
    return signature(failure) == signature(replace(failure, message=probe.detail))


def _says_well(outcome: Outcome | SentAll) -> bool:
    """Whether the provider answered as it does when nothing is wrong with the account."""
    return isinstance(outcome, Sent | SentAll | Rejected)
