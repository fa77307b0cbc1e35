"""What a running daemon says of itself: to the probes, to the service manager's watchdog, and in `systemctl status`."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from outboxd.config import Config
from outboxd.db.pause import Active
from outboxd.db.session import Session
from outboxd.delivery.claimer import Claimer
from outboxd.delivery.hand import Hand
from outboxd.resend.client import Client
from outboxd.telemetry import redact
from outboxd.web.health import Report

STUCK: Final = 30.0  # seconds without a round of the claimer
OVERDUE: Final = timedelta(seconds=5)  # beyond its deadline


@dataclass(frozen=True, slots=True)
class Vitals:
    """The parts that are looked at; they are the daemon's own. For any thread."""

    config: Config
    claimer: Claimer
    settling: Session
    hand: Hand
    clients: list[Client]
    crashed: list[str]
    stop: threading.Event

    def alive(self) -> bool:
        """Whether nothing hangs: else the service manager should start it anew."""
        return not self.stuck_for() and not self.overdue()

    def live(self) -> Report:
        """`/livez`."""
        problems = [f"{name} died" for name in self.crashed]
        if idle := self.stuck_for():
            problems.append(f"no claim round for {idle:.0f} s")
        if longest := self.overdue():
            problems.append(f"a request has lasted {longest:.0f} s, beyond its deadline")
        return Report(not problems, problems, {"in_hand": self.hand.waiting(), "asking": self.hand.asking()})

    def ready(self) -> Report:
        """`/readyz`."""
        connected = {"claimer": self.claimer.session.connected, "settler": self.settling.connected}
        problems = [] if connected["claimer"].is_set() else ["no connection to Postgres"]
        if self.stop.is_set():
            problems.append("stopping")
        if self.claimer.fence.problem:
            problems.append(self.claimer.fence.problem)
        detail: dict[str, object] = {name: there.is_set() for name, there in connected.items()}
        return Report(
            not problems, problems, detail | _pauses(self.config.resend.account, self.claimer.pauses)
        )

    def status(self) -> str:
        """The line in `systemctl status`."""
        if not self.claimer.session.connected.is_set():
            return "waits for Postgres"
        why_not = _standstill(self.claimer.fence.problem, self.config.resend.account, self.claimer.pauses)
        return why_not or f"sends: {self.hand.asking()} being asked, threads {self.config.sender.threads}"

    def stuck_for(self) -> float:
        """Seconds since the claimer's last round, where that is too long; a missing database is not a hang.

        Neither is work that the server may take its time for: the connection's watchdog bounds each statement of it.
        """
        idle, session = time.monotonic() - self.claimer.progress_at, self.claimer.session
        waits = not session.connected.is_set() or session.is_patient()
        return idle if idle > STUCK and not waits else 0.0

    def overdue(self) -> float:
        """Seconds that a request has lasted, where that is beyond its deadline: its sender hangs."""
        longest = max((client.asking_for() for client in self.clients), default=0.0)
        return longest if longest > (self.config.resend.deadline + OVERDUE).total_seconds() else 0.0


def _pauses(account: str, pauses: Iterable[Active]) -> dict[str, object]:
    """The detail of `/readyz` about what is not asked for: all of it, and whether the account's breaker is open."""
    known = sorted(pauses, key=lambda one: (one.kind, one.key))
    return {
        "breaker": "open" if any((one.kind, one.key) == ("breaker", account) for one in known) else "closed",
        "pauses": [
            {
                "kind": one.kind,
                "key": one.key,
                "reason": redact(one.reason),
                "since": one.since,
                "until": one.until,
            }
            for one in known
        ],
    }


def _standstill(problem: str | None, account: str, pauses: Iterable[Active]) -> str | None:
    """Why nothing at all is sent, in one line: the fence's `problem`, or what holds the account. None: it sends."""
    own = {("account", account), ("breaker", account)}
    held = [_in_words(one) for one in sorted(pauses, key=lambda one: one.kind) if (one.kind, one.key) in own]
    return problem or (f"paused: {', '.join(held)}" if held else None)


def _in_words(one: Active) -> str:
    reason = " ".join(redact(one.reason).split())
    return f"{one.kind} {one.key} ({reason})" + (f" until {one.until}" if one.until else "")
