"""Which mailbox provider a domain belongs to, answered at once and learned in the background.

`provider_of` is asked on the path and never waits: it knows the listed domains and what DNS said before. A domain that
it does not know is a provider of its own, and is remembered for the next round, which asks Postgres (what another
daemon found) and then DNS. A failed look-up changes nothing but the time of the next one.

The round is a loop of its own; the path only reads. What was learned holds until it is learned again, after an hour at
the latest. Memory is bounded: the oldest answers are dropped.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from outboxd.core.provider import Provider, by_exchangers, listed
from outboxd.db import provider
from outboxd.db.provider import Found
from outboxd.db.session import Connection

log = logging.getLogger(__name__)

KNOWN: Final = 100_000  # domains in memory
WANTED: Final = 10_000  # domains that wait for a look-up
PER_ROUND: Final = 50  # domains in one round
BUDGET: Final = 3.0  # seconds in which a round begins look-ups
DEADLINE: Final = 2.0  # seconds for one look-up
AGAIN: Final = 3600.0  # seconds after which an answer is asked for again
KEEP: Final = timedelta(days=7)  # what DNS said
KEEP_NOTHING: Final = timedelta(days=1)  # where it said that there is no exchanger
KEEP_FAILURE: Final = timedelta(minutes=15)  # where it said nothing

Resolve = Callable[[str], Sequence[str] | None]
"""Exchangers of a domain in order of preference; empty where it has none; None where DNS gave no answer."""


@dataclass(slots=True)
class Providers:
    """What is known. `provider_of` is for the path, `refresh` and `round` for one background thread."""

    resolve: Resolve
    domains: Mapping[str, str] = field(default_factory=dict)
    suffixes: Mapping[str, str] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    _known: dict[str, tuple[Provider, float]] = field(default_factory=dict)
    _wanted: dict[str, None] = field(default_factory=dict)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def provider_of(self, domain: str) -> Provider:
        """The provider of a domain in lower case, as A-labels. Never waits for Postgres or DNS."""
        known, again_at = self._known.get(domain, (None, 0.0))
        if known is not None and self.clock() < again_at:
            return known
        name = listed(domain, self.domains)
        if name is not None:
            return self._learn(domain, Provider(name, name))
        self._want(domain)
        return known or Provider(domain, domain)

    def refresh(self, conn: Connection) -> None:
        """Read the lists again; where they changed, learn everything anew."""
        domains, suffixes = provider.listed(conn)
        if (domains, suffixes) != (self.domains, self.suffixes):
            self.domains, self.suffixes = domains, suffixes
            with self._mutex:
                self._known.clear()

    def wants(self) -> bool:
        """Whether a domain was met that is not known."""
        return bool(self._wanted)

    def round(self, conn: Connection) -> int:
        """Learn about domains that were asked for, in a few seconds at most; about how many."""
        wanted = self._take()
        if not wanted:
            return 0
        answers = dict(provider.remembered(conn, wanted))
        found, until = [], self.clock() + BUDGET
        for domain in wanted:
            if domain in answers:
                continue
            if self.clock() >= until:
                self._want(domain)
                continue
            found.append(self._look_up(domain))
        if found:
            provider.remember(conn, found)
        answers |= {one.domain: one.provider for one in found}
        for domain, name in answers.items():
            self._learn(domain, Provider(domain, name or domain))
        return len(answers)

    def _want(self, domain: str) -> None:
        with self._mutex:
            if len(self._wanted) < WANTED:
                self._wanted[domain] = None

    def _take(self) -> list[str]:
        with self._mutex:
            taken = list(self._wanted)[:PER_ROUND]
            for domain in taken:
                del self._wanted[domain]
        return taken

    def _look_up(self, domain: str) -> Found:
        hosts = self.resolve(domain)
        if hosts is None:
            log.debug("no answer of DNS", extra={"domain": domain})
            return Found(domain, None, KEEP_FAILURE)
        return Found(domain, by_exchangers(hosts, self.suffixes), KEEP if hosts else KEEP_NOTHING)

    def _learn(self, domain: str, found: Provider) -> Provider:
        with self._mutex:
            self._known[domain] = (found, self.clock() + AGAIN)
            while len(self._known) > KNOWN:
                del self._known[next(iter(self._known))]
        return found


def resolve_mx(domain: str) -> Sequence[str] | None:
    """Ask DNS for the exchangers of a domain, within two seconds."""
    import dns.exception  # noqa: PLC0415 - 60 ms, for a thread that few installations feel
    import dns.resolver  # noqa: PLC0415

    try:
        answer = dns.resolver.resolve(domain, "MX", lifetime=DEADLINE)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return ()
    except (dns.exception.DNSException, OSError):
        return None
    return [str(record.exchange) for record in sorted(answer, key=lambda record: record.preference)]
