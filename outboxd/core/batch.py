"""Requests for many emails: which emails may travel together, and what follows from one answer for all. Pure.

A batch is an entity: members, order, bytes and key are fixed before its first ask, and a retry sends the same bytes.
Its emails wait, are asked and end together, so only those that are equally patient share one. A definite rejection
of the message kind says that some member is bad, not which: the batch is taken apart into quarters under new
keys until the bad one is alone. Nothing else takes a batch apart once it may have been accepted.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final
from uuid import UUID

from outboxd.core.address import sender_domain
from outboxd.core.email import Claimed, Frozen
from outboxd.core.outcome import Failed, Failure, Outcome, Rejected, Returned, SentAll
from outboxd.core.retry import KEY_LIFE, RETRIES, Policy, Step, decide, decide_probe

MOST: Final = 100  # emails in one request, by Resend's contract
MOST_BYTES: Final = 4 * 1024 * 1024  # of one request for many
SETTLED_AFTER: Final = timedelta(
    seconds=60
)  # a rejection says that an earlier ask was not accepted only after this
ALONE_AFTER_RISE: Final = timedelta(minutes=10)  # what was there before a failover shares no request


@dataclass(frozen=True, slots=True)
class Batch:
    """One stored request for many emails, and what its earlier asks came to.

    `rejected`: its last answer was a definite no for a member's sake, so it is to be split, not asked.
    """

    uid: UUID
    body: bytes
    frozen: Frozen
    attempts: int = 0
    crash_streak: int = 0
    first_asked_at: datetime | None = None
    first_failed_at: datetime | None = None
    last_ambiguous_at: datetime | None = None
    ambiguous: bool = False
    transient: bool = True
    rejected: bool = False

    @property
    def key(self) -> str:
        """The idempotency key: the same for every ask of these bytes."""
        return f"obxb1.{self.uid}.1"


@dataclass(frozen=True, slots=True)
class Parcel:
    """What travels in one request: one email, or the members of a batch in the order of its bytes."""

    emails: tuple[Claimed, ...]
    batch: Batch | None = None

    @property
    def first(self) -> Claimed:
        """The email that stands for all: they share queue, lane, priority and policy."""
        return self.emails[0]

    @property
    def lane(self) -> int:
        """The first email's lane; below zero where the parcel is a suspect of crashes, as for single emails."""
        return self.first.lane if self.batch is None else -min(self.batch.crash_streak, 2) or self.first.lane

    @property
    def open(self) -> bool:
        """Whether an earlier ask under this parcel's key may have been accepted."""
        return self.batch.ambiguous if self.batch else self.first.ambiguous


@dataclass(frozen=True, slots=True)
class Rise:
    """A standby was promoted at `at`, and had emails up to `last_id`. It may have lost that some were asked for."""

    at: datetime
    last_id: int

    def may_hide(self, email: Claimed) -> bool:
        """Whether it may have been asked for alone, unseen: alone again it keeps its key, and is accepted once."""
        return email.id <= self.last_id and email.claimed_at < self.at + ALONE_AFTER_RISE


def may_travel(email: Claimed, policy: Policy, rise: Rise | None = None) -> bool:
    """Whether it may share a request: without attachments or the provider's own schedule, and nothing open.

    What expires within the life of a key goes alone, since a batch with an open answer is finished unchanged. So does
    what goes without some of its recipients: news of a member's recipients takes a batch apart. What was there before
    a failover goes alone for a while, since it may have been asked for alone.
    """
    if not policy.batch or email.alone or email.ambiguous or email.lane < 0 or email.crash_streak:
        return False
    if email.suppressed or email.frozen.removed:
        return False
    if rise is not None and rise.may_hide(email):
        return False
    return email.expires_at is None or email.expires_at > email.claimed_at + KEY_LIFE


def groups(
    emails: Iterable[Claimed], policy_of: Callable[[Claimed], Policy], rise: Rise | None = None
) -> list[list[Claimed]]:
    """Emails that may share a request, in groups of 1 to 100; those that may not, alone. In the order of each first.

    What they share, besides policy and place: how far they got, and the sender's domain, since one that is not
    verified refuses the whole request.
    """
    found: list[list[Claimed]] = []
    open_: dict[object, list[Claimed]] = {}
    for email in emails:
        policy = policy_of(email)
        if not may_travel(email, policy, rise):
            found.append([email])
            continue
        place = (email.queue_id, email.lane, email.priority)
        key = (
            policy, place, email.max_attempts, email.attempts, email.transient, sender_domain(email.sender),
        )  # fmt: skip
        group = open_.get(key)
        if group is None or len(group) == MOST:
            group = open_[key] = []
            found.append(group)
        group.append(email)
    return found


def packed(items: Sequence[bytes]) -> bytes:
    """The body of a batch, from the bodies of its members."""
    return b"[" + b",".join(items) + b"]"


def quarters(parcel: Parcel) -> Iterator[tuple[list[Claimed], list[bytes]]]:
    """The members of a rejected batch as up to four groups, with their bodies.

    Four, since a bad one is found with as many requests as by halves, in half the rounds: the good ones wait less.
    """
    assert parcel.batch is not None
    items = unpacked(parcel.batch.body)
    cuts = [len(items) * n // 4 for n in range(5)]
    for start, end in pairwise(cuts):
        if start < end:
            yield list(parcel.emails[start:end]), items[start:end]


def unpacked(body: bytes) -> list[bytes]:
    """The bodies of a batch's members."""
    return [
        json.dumps(item, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        for item in json.loads(body)
    ]


def decide_together(
    outcome: Outcome | SentAll,
    parcel: Parcel,
    policy: Policy,
    *,
    now: datetime,
    asked_at: datetime | None,
    draw: Callable[[], float],
    probing: bool = False,
) -> list[Step]:
    """One step per member. `asked_at` is when the ask began, None where none did; both are the database's clock."""
    batch = parcel.batch
    assert batch is not None
    if isinstance(outcome, SentAll):
        return [_sent(batch, provider_id) for provider_id in outcome.provider_ids]
    if isinstance(outcome, Returned):
        return [_kept(batch, timedelta()) if batch.ambiguous else _apart(batch)] * len(parcel.emails)
    if isinstance(outcome, Rejected):
        return [_after_rejection(outcome.failure, batch, now, asked_at)] * len(parcel.emails)
    stand_in = replace(
        parcel.first,
        attempts=batch.attempts,
        first_asked_at=batch.first_asked_at,
        first_failed_at=batch.first_failed_at,
        ambiguous=batch.ambiguous,
        transient=batch.transient,
    )
    step = (decide_probe if probing else decide)(outcome, stand_in, policy, now=now, draw=draw)
    if (
        isinstance(outcome, Failed) and outcome.in_unknown_words and step.name == "dead"
    ):  # it may be one member's
        return [_after_rejection(outcome.failure, batch, now, asked_at)] * len(parcel.emails)
    return [_with_its_batch(step) if step.name == "again" else step] * len(parcel.emails)


def _with_its_batch(step: Step) -> Step:
    """Batches take turns with fresh mail as they are, without a lane for it."""
    return replace(step, name="kept", park=None if step.park == RETRIES else step.park)


def _sent(batch: Batch, provider_id: str) -> Step:
    return Step("sent", batch.attempts + 1, batch.ambiguous, provider_id=provider_id)


def _kept(batch: Batch, due_in: timedelta, failure: Failure | None = None, *, rejected: bool = False) -> Step:
    return Step(
        "kept", batch.attempts, batch.ambiguous, batch.transient, due_in, failure=failure, rejected=rejected
    )


def _apart(batch: Batch) -> Step:
    return Step("again", batch.attempts, ambiguous=False, transient=batch.transient, keeps_place=True)


def _after_rejection(failure: Failure, batch: Batch, now: datetime, asked_at: datetime | None) -> Step:
    """Split, unless an earlier ask may still be on its way: then this one could have been the one that came second."""
    if batch.ambiguous and batch.last_ambiguous_at is not None:
        settled_at = batch.last_ambiguous_at + SETTLED_AFTER
        if (asked_at or now) < settled_at:
            return _kept(batch, max(settled_at - now, timedelta()), failure)
    return _kept(batch, timedelta(), failure, rejected=True)


def accepted(parcel: Parcel) -> SentAll | None:
    """The evidence that every member was accepted, where it came too late for its own lease."""
    ids = [email.accepted_as for email in parcel.emails if email.accepted_as is not None]
    return SentAll(tuple(ids)) if parcel.batch and len(ids) == len(parcel.emails) else None
