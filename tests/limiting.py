"""Asks for limits, as the daemon makes them, and what a window really held."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from outboxd.core.limits import Ask, Limit, Limits, Subject, ask, ask_back
from outboxd.core.provider import Provider
from outboxd.db import limit
from outboxd.db.session import path_settings

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
SLACK = timedelta(seconds=1)
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
THREE_AN_HOUR = Limit("recipient", None, 3, HOUR, frozenset({"reset"}))


def itself(domain: str) -> Provider:
    """A world in which every domain is a provider of its own."""
    return Provider(domain, domain)


def subject(id_: int, *recipients: str, type: str = "welcome", **fields: Any) -> Subject:
    values = {"queue": "transactional", "campaign": None, "tenant": "", "granted_at": None} | fields
    return Subject(id=id_, type=type, recipients=recipients or ("ada@example.org",), **values)


def columns(emails: Sequence[Subject], limits: Iterable[Limit], *, scale: float = 1.0) -> Ask:
    mine = Limits(limits, time_scale=scale)
    return ask(remembering(emails, mine), mine, itself)


def columns_back(emails: Sequence[Subject], limits: Iterable[Limit]) -> Ask:
    mine = Limits(limits)
    return ask_back(remembering(emails, mine), mine)


def remembering(emails: Sequence[Subject], limits: Limits) -> list[Subject]:
    """With what these limits granted, where an email was granted something and does not say under which."""
    return [
        email._replace(granted=limits.needs(email, itself))
        if email.granted_at and not email.granted
        else email
        for email in emails
    ]


def under(emails: Iterable[Subject], *limits: Limit) -> list[Subject]:
    """These emails, granted under these limits, whatever the limits are when they ask again."""
    return [email._replace(granted=Limits(limits).needs(email, itself)) for email in emails]


def grant(
    conn: psycopg.Connection,
    emails: Sequence[Subject],
    *limits: Limit,
    now: datetime | None = None,
    scale: float = 1.0,
    slack: timedelta = SLACK,
) -> list[limit.Verdict]:
    """One transaction of the path that asks and commits."""
    with conn.pipeline(), conn.transaction():
        path_settings(conn)
        return limit.grant(conn, columns(emails, limits, scale=scale), slack=slack, now=now)


def give_back(conn: psycopg.Connection, emails: Sequence[Subject], *limits: Limit) -> int:
    with conn.transaction():
        path_settings(conn)
        return limit.give_back(conn, columns_back(emails, limits))


def granted(verdicts: Iterable[limit.Verdict]) -> list[int]:
    return [verdict.id for verdict in verdicts if verdict.granted]


def most_within(instants: Iterable[datetime], window: timedelta) -> int:
    """The largest number of instants in any window that is shorter than `window`."""
    ordered = sorted(instants)
    worst, first = 0, 0
    for last, instant in enumerate(ordered):
        while instant - ordered[first] >= window:
            first += 1
        worst = max(worst, last - first + 1)
    return worst
