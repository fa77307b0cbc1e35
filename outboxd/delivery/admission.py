"""The gates that ask Postgres, for a whole claim at once: who was taken out of an email, and what limits allow.

Asked after the gates that need nothing but the claim, and before anything is in hand. Suppressed cc and bcc are taken
out and stored before the request exists, so that its bytes never change. Limits grant all that an email is under or
nothing; what they grant and is not used is given back by the settler.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from outboxd.core.batch import Parcel, Rise
from outboxd.core.email import Claimed
from outboxd.core.limits import RECIPIENT, Ask, Needs, Subject, ask, ask_back
from outboxd.core.outcome import Limited, Returned
from outboxd.core.provider import Provider
from outboxd.core.recipients import Goes, review
from outboxd.core.retry import LANE_OF_LIMIT, QUOTAS
from outboxd.db import limit, suppression
from outboxd.db.limit import Verdict
from outboxd.db.policy import Policies
from outboxd.db.session import Connection, path_settings
from outboxd.delivery.gates import Stopped
from outboxd.delivery.watch import SteppedError, Watch


@dataclass(frozen=True, slots=True)
class Admission:
    """What the gates go by: the limits in force, and which mailbox provider a domain belongs to.

    `watch` is over the server's clock, for the thread that claims; `rise` tells of a failover that may hide asks.
    """

    policies: Policies
    provider_of: Callable[[str], Provider]
    watch: Watch = field(default_factory=Watch)
    rise: Callable[[], Rise | None] = lambda: None

    def admit(
        self, conn: Connection, lease_id: UUID, parcels: Sequence[Parcel]
    ) -> tuple[list[Parcel], list[tuple[Parcel, Stopped]]]:
        """The parcels that may go, in their order, and those that may not."""
        return self.grant(conn, _without_suppressed(conn, lease_id, parcels))

    def grant(
        self, conn: Connection, parcels: Sequence[Parcel]
    ) -> tuple[list[Parcel], list[tuple[Parcel, Stopped]]]:
        """The same by limits alone. What was granted before and not asked for yet moves to now.

        A parcel that is stopped keeps what its other emails were granted until the settler gives it back: one that is
        in hand may have left for the provider meanwhile.
        """
        emails = [email for parcel in parcels for email in parcel.emails]
        wanted = ask([_subject(email) for email in emails], self.policies.limits, self.provider_of)
        if not wanted.mailbox_of and not wanted.share_of:
            return list(parcels), []
        held: dict[int, Verdict] = {}
        for email, verdict, needs in zip(emails, self._verdicts(conn, wanted), wanted.needs, strict=True):
            if verdict.granted:
                email.grant.at = verdict.granted_at
                email.grant.needs = needs
            else:
                held[email.id] = verdict
        if not held:
            return list(parcels), []
        needs_of = {email.id: needs for email, needs in zip(emails, wanted.needs, strict=True)}
        go: list[Parcel] = []
        stopped: list[tuple[Parcel, Stopped]] = []
        for parcel in parcels:
            if (found := self._stopped(parcel, held, needs_of)) is None:
                go.append(parcel)
            else:
                stopped.append((parcel, found))
        return go, stopped

    def _stopped(
        self, parcel: Parcel, held: Mapping[int, Verdict], needs: Mapping[int, Needs]
    ) -> Stopped | None:
        """By the limit that frees it last. A batch waits whole; one that would wait for ever is taken apart.

        But not with an open answer, nor while a failover may hide one.
        """
        members = [
            Limited(verdict.kind or "", verdict.key or "", verdict.free_at or verdict.granted_at)
            if (verdict := held.get(email.id))
            else Returned()
            for email in parcel.emails
        ]
        limited = [outcome for outcome in members if isinstance(outcome, Limited)]
        if not limited:
            return None
        last = max(limited, key=lambda outcome: outcome.free_at)
        rise = self.rise()
        hidden = rise is not None and any(rise.may_hide(email) for email in parcel.emails)
        whole = parcel.batch is None or parcel.open or hidden or self._fits(parcel, needs)
        return Stopped(last, () if whole else tuple(members))

    def _fits(self, parcel: Parcel, needs: Mapping[int, Needs]) -> bool:
        """Whether windows that nobody else uses have room for all of it: not, where a limit was lowered since it was stored.

        Nor does it count on that where one of its providers is slowed.
        """
        limits = self.policies.limits
        units: Counter[tuple[str, str]] = Counter()
        room: dict[tuple[str, str], int] = {}
        for email in parcel.emails:
            mine = needs[email.id]
            for share, of_share, spare in zip(mine.shares, mine.units, mine.spare, strict=True):
                if share.provider is not None and (
                    limits.overrides is None or share.provider in limits.overrides
                ):
                    return False
                if share.most is not None:
                    most = room[share.kind, share.key] = share.most - spare
                    units[share.kind, share.key] += min(of_share, most)  # more than that goes alone
            if (mailbox := limits.of_mailbox(email.type)) is not None:
                for address in dict.fromkeys(_subject(email).recipients):
                    units[RECIPIENT, address] += 1
                    room[RECIPIENT, address] = mailbox[0]
        return all(units[key] <= most for key, most in room.items())

    def _verdicts(self, conn: Connection, wanted: Ask) -> list[Verdict]:
        """One for each email; asked again where the server's clock has stepped ahead of what was counted."""
        asked = self.watch.clock()
        try:
            with conn.transaction():
                path_settings(conn)
                verdicts = limit.grant(conn, wanted)
                self.watch.saw(verdicts[0].granted_at, asked)
        except SteppedError as stepped:
            self.watch.follow(conn, stepped.step)
            return self._verdicts(conn, wanted)
        return verdicts

    def give_back(
        self, conn: Connection, unused: Iterable[Parcel], *, refused_by: tuple[str, str] | None = None
    ) -> None:
        """Shares that were granted for an ask that did not begin, or that was certainly not accepted.

        Where an ask before it may have been accepted, that one's shares stay: windows have a share for each, of which
        the last goes back; a mailbox has moved the only one, and keeps it. Lanes that wanted these shares open at once;
        where a limit (kind, key) refused the rest of what had them, with the next round and without that limit's own: of a
        batch that it holds in part it would open its lane for ever, and two such batches each other's.
        """
        parcels = list(unused)
        closed = self._unused(_granted_emails(parcel for parcel in parcels if not parcel.open))
        open_ = self._unused(_granted_emails(parcel for parcel in parcels if parcel.open), mailboxes=False)
        for returned in (closed, open_):
            if returned.mailbox_of or returned.share_of:
                with conn.transaction():
                    path_settings(conn)
                    opened = _others(returned, refused_by)
                    if limit.give_back(conn, returned) and opened and refused_by is None:
                        limit.open_lanes(conn, *zip(*opened, strict=True))
                self.policies.gave_back(opened)

    def _unused(self, emails: Iterable[Claimed], *, mailboxes: bool = True) -> Ask:
        return ask_back([_subject(email) for email in emails], self.policies.limits, mailboxes=mailboxes)


def _others(returned: Ask, refused_by: tuple[str, str] | None) -> list[tuple[str, str]]:
    """The keys whose lanes are not that of the limit which refused."""
    keys = zip(returned.kinds, returned.keys, strict=True)
    if refused_by is None:
        return list(keys)
    own = (_lane_kind(refused_by[0]), refused_by[1])
    return [(kind, key) for kind, key in keys if (_lane_kind(kind), key) != own]


def _lane_kind(kind: str) -> str:
    return "quota" if kind in QUOTAS else LANE_OF_LIMIT.get(kind, kind)


def _granted_emails(parcels: Iterable[Parcel]) -> Iterable[Claimed]:
    return (email for parcel in parcels for email in parcel.emails if email.grant.at is not None)


def _subject(email: Claimed) -> Subject:
    removed = email.frozen.removed
    recipients = email.recipients
    return Subject(
        id=email.id,
        type=email.type,
        queue=email.queue,
        campaign=email.campaign,
        tenant=email.tenant,
        recipients=tuple(one for one in recipients if one not in removed) if removed else recipients,
        granted_at=email.grant.at,
        account=email.frozen.account,
        granted=email.grant.needs,
    )


def _without_suppressed(conn: Connection, lease_id: UUID, parcels: Sequence[Parcel]) -> list[Parcel]:
    """Store who is taken out of which email, where that is news; the parcels with it."""
    news = {
        email.id: removed
        for parcel in parcels
        if parcel.batch is None
        for email in parcel.emails
        if (removed := taken_out(email)) != email.frozen.removed
    }
    if not news:
        return list(parcels)
    generations = suppression.take_out(conn, lease_id, news)
    return [
        _rewritten(parcel, news[parcel.first.id], generations[parcel.first.id])
        if parcel.first.id in news and parcel.first.id in generations
        else parcel
        for parcel in parcels
        if parcel.first.id not in news or parcel.first.id in generations
    ]


def _rewritten(parcel: Parcel, removed: tuple[str, ...], generation: int) -> Parcel:
    email = parcel.first
    frozen = replace(email.frozen, removed=removed)
    return Parcel((replace(email, frozen=frozen, generation=generation),))


def taken_out(email: Claimed) -> tuple[str, ...]:
    """Whom to take out of an email that goes. Once it was asked for, nobody comes back in."""
    if not email.suppressed:
        return email.frozen.removed if email.first_asked_at is not None else ()
    verdict = review(json.loads(email.payload or "{}"), {address for address, _, _ in email.suppressed})
    removed = verdict.removed if isinstance(verdict, Goes) else ()
    if email.first_asked_at is not None:
        return tuple(sorted({*removed, *email.frozen.removed}))
    return removed
