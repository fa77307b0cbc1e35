"""Mailbox providers in Postgres: what is listed, what exchangers are whose, and what DNS said, shared by all daemons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from outboxd.db.query import query
from outboxd.db.session import Connection


@dataclass(frozen=True, slots=True)
class Found:
    """What DNS said about a domain; `provider` is None where its exchangers are nobody's that we know."""

    domain: str
    provider: str | None
    keep_for: timedelta


def listed(conn: Connection) -> tuple[dict[str, str], dict[str, str]]:
    """The provider by domain or pattern, and the provider by the end of an exchanger's name."""
    rows = conn.execute(query("provider/listed")).fetchall()
    domains = {name: provider for kind, name, provider in rows if kind == "domain"}
    suffixes = {name: provider for kind, name, provider in rows if kind == "mx"}
    return domains, suffixes


def remembered(conn: Connection, domains: Sequence[str]) -> Mapping[str, str | None]:
    """Those of the domains that DNS was asked about lately, and what it said."""
    return dict(conn.execute(query("provider/remembered"), {"domains": list(domains)}).fetchall())


def remember(conn: Connection, found: Sequence[Found]) -> None:
    """Keep what DNS said, each for its time."""
    values = {
        "domains": [one.domain for one in found],
        "providers": [one.provider for one in found],
        "keep_for": [one.keep_for for one in found],
    }
    conn.execute(query("provider/remember"), values)
