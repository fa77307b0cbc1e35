"""Limits: which of them an email is under, as the columns that one statement asks for a whole batch. Pure.

Of the rows of one kind, the row that names the key beats the one without a key, which stands for every other key.
An email that lacks a key (no campaign, an empty tenant) is under no limit of that kind. Mailboxes are counted one by
one, mailbox providers and the account's quotas by recipients, everything else by emails. An account's own rate is not
counted here. Of a quota, queues that are not critical leave a share free.
"""

from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, NamedTuple

from outboxd.core.provider import Provider

GRANT_TO_ARRIVAL: Final = timedelta(seconds=1)  # by which every window is longer
BY_PROVIDER: Final = ("provider_minute", "provider_day")
SHAPE: Final = "provider_shape"  # of who is under no limit there, but waits while the provider is suspended
BY_ACCOUNT: Final = ("account_day", "account_month")
RECIPIENT: Final = "recipient"
ANY_MAILBOX: Final = "*"  # limits of mailboxes are never of one by name
REMEMBERED: Final = 10_000  # kinds of email that are alike, and types of email by provider
MINUTE: Final = timedelta(minutes=1)
# Longer than a month; a 40th, by which counts are summed up, is a day of UTC.
MONTH_KEPT: Final = timedelta(days=40)


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` (None: as many as come) within any `per`, for one key or (None) for each by itself.

    Emails of an exempt type are not held and do not count. `spare` is what queues that are not critical leave free;
    `month_day` is the day on which months begin, where it counts those and not `per`.
    """

    kind: str
    key: str | None
    most: int | None
    per: timedelta
    exempt_types: frozenset[str] = frozenset()
    spare: int = 0
    month_day: int | None = None


class Subject(NamedTuple):
    """What limits see of an email. Recipients are normalised addresses: to, cc and bcc.

    `granted_at` is the instant of a grant that was not used up: asking again moves it, giving back takes it away;
    `granted` are the shares that it took, without which none of a window is moved or given back.
    """

    id: int
    type: str
    queue: str
    campaign: str | None
    tenant: str | None
    recipients: tuple[str, ...]
    granted_at: datetime | None = None
    account: str = ""
    granted: "Needs | None" = None


@dataclass(frozen=True, slots=True)
class Ask:
    """The columns of one statement. Places count from 1 and ascend; `keys` are distinct (kind, key).

    `share_granted` are units that were granted before, empty where none were; `needs`, one per email, is no column.
    """

    emails: list[int] = field(default_factory=list)
    granted_before: list[datetime | None] = field(default_factory=list)
    mailbox_of: list[int] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    mailbox_most: list[int | None] = field(default_factory=list)
    mailbox_per: list[timedelta] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    key_most: list[int | None] = field(default_factory=list)
    key_per: list[timedelta] = field(default_factory=list)
    key_day: list[int | None] = field(default_factory=list)
    key_provider: list[str | None] = field(default_factory=list)
    key_demand: list[int] = field(default_factory=list)
    share_of: list[int] = field(default_factory=list)
    share_key: list[int] = field(default_factory=list)
    share_units: list[int] = field(default_factory=list)
    share_spare: list[int] = field(default_factory=list)
    share_granted: list[int] = field(default_factory=list)
    needs: "list[Needs]" = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Share:
    """What one email needs of one window. `most` None: nothing is counted, only the provider's override is obeyed."""

    kind: str
    key: str
    most: int | None
    per: timedelta
    provider: str | None = None
    spare: int = 0
    month_day: int | None = None


@dataclass(frozen=True, slots=True)
class Needs:
    """The shares of one email, with the units and the spare of each."""

    shares: list[Share]
    units: list[int]
    spare: list[int]

    def granted(self, before: "Needs | None") -> list[int]:
        """Of each share, the units that are among those that were granted `before`."""
        if before is self:
            return self.units
        if before is None:
            return [0] * len(self.units)
        known = {(one.kind, one.key): units for one, units in zip(before.shares, before.units, strict=True)}
        return [known.get((share.kind, share.key), 0) for share in self.shares]


def from_rule(
    kind: str, key: str | None, most: int | None, per: timedelta, options: Mapping[str, object]
) -> Limit:
    """The limit that a row of policy stands for."""
    exempt = options.get("exempt_types")
    types = frozenset(map(str, exempt if isinstance(exempt, list) else ()))
    if kind not in BY_ACCOUNT or most is None:
        return Limit(kind, key, most, per, types)
    kept = most * Decimal(str(options.get("critical_share", 0)))
    day = options.get("starts_on", 1) if kind == "account_month" else None
    return Limit(kind, key, most, per, spare=int(kept), month_day=day if isinstance(day, int) else None)


class Limits:
    """The limits in force, by kind and key. `time_scale` shortens every window, for tests.

    `overrides` are the providers that are slowed or suspended: who is one of them obeys its own, else its group's; while
    there are any, a provider is asked about also where nothing is counted. None: it is not known which.
    `critical` are the queues that may use all of a quota.
    """

    def __init__(
        self,
        rows: Iterable[Limit] = (),
        *,
        time_scale: float = 1.0,
        overrides: Collection[str] | None = None,
        critical: Container[str] = (),
    ) -> None:
        self.overrides = overrides
        self._time_scale = time_scale
        self._known: dict[tuple[str, str | None], Limit] = {(row.kind, row.key): row for row in rows}
        self._critical = critical
        self._of_providers: dict[tuple[str, str, str], list[Share]] = {}
        self._alike: dict[tuple[str | None, ...], Needs] = {}
        self.exempting = frozenset(kind for (kind, _), row in self._known.items() if row.exempt_types)
        self.has_quota = any(kind in BY_ACCOUNT for kind, _ in self._known)

    def of(self, kind: str, key: str | None, type_: str) -> Limit | None:
        """The limit that counts for a key and an email's type, or None."""
        if not key:
            return None
        limit = self._known.get((kind, key)) or self._known.get((kind, None))
        return None if limit is None or limit.most is None or type_ in limit.exempt_types else limit

    def window(self, limit: Limit) -> timedelta:
        """How long the limit's window is here."""
        return MONTH_KEPT if limit.month_day else limit.per * self._time_scale

    def of_email(self, email: Subject) -> list[Share]:
        """What an email needs of its queue, type, campaign and tenant."""
        keys = {"queue": email.queue, "type": email.type, "campaign": email.campaign, "tenant": email.tenant}
        return [
            Share(kind, key, limit.most, self.window(limit))
            for kind, key in keys.items()
            if key and (limit := self.of(kind, key, email.type))
        ]

    def of_quota(self, email: Subject) -> list[Share]:
        """What an email needs of its account's quotas for each recipient."""
        return [
            Share(
                kind,
                email.account,
                limit.most,
                self.window(limit),
                spare=0 if email.queue in self._critical else limit.spare,
                month_day=limit.month_day,
            )
            for kind in BY_ACCOUNT
            if (limit := self.of(kind, email.account, email.type))
        ]

    def of_provider(self, provider: Provider, type_: str) -> list[Share]:
        """What an email needs of a mailbox provider for each recipient there."""
        key = (type_, provider.name, provider.shaped_by)
        found = self._of_providers.get(key)
        if found is None:
            if len(self._of_providers) >= REMEMBERED:
                self._of_providers.clear()
            found = self._of_providers[key] = self._asked_of_provider(provider, type_)
        return found

    def _asked_of_provider(self, provider: Provider, type_: str) -> list[Share]:
        limits = [limit for kind in BY_PROVIDER if (limit := self.of(kind, provider.name, type_))]
        if not limits and self.overrides is not None and not self.overrides:
            return []
        obeyed = provider.name if provider.name in (self.overrides or ()) else provider.shaped_by
        if not limits:
            return [Share(SHAPE, provider.name, None, MINUTE, obeyed)]
        return [Share(limit.kind, provider.name, limit.most, self.window(limit), obeyed) for limit in limits]

    def needs(self, email: Subject, provider_of: Callable[[str], Provider]) -> Needs:
        """All shares of an email. Remembered for emails to one recipient, which are alike where all they count under is."""
        if len(email.recipients) != 1:
            return self._needs(email, provider_of)
        provider = provider_of(email.recipients[0].rpartition("@")[2])
        alike = (
            email.type, email.queue, email.campaign, email.tenant, email.account, provider.name, provider.shaped_by,
        )  # fmt: skip
        found = self._alike.get(alike)
        if found is None:
            if len(self._alike) >= REMEMBERED:
                self._alike.clear()
            found = self._alike[alike] = self._needs(email, lambda _: provider)
        return found

    def _needs(self, email: Subject, provider_of: Callable[[str], Provider]) -> Needs:
        found = {(share.kind, share.key): (share, 1) for share in self.of_email(email)}
        if self.has_quota:
            for share in self.of_quota(email):
                found[share.kind, share.key] = (share, len(email.recipients))
        for domain, units in _domains(email.recipients).items():
            for share in self.of_provider(provider_of(domain), email.type):
                _, already = found.get((share.kind, share.key), (share, 0))
                found[share.kind, share.key] = (share, already + units)
        shares = [share for share, _ in found.values()]
        return Needs(shares, [units for _, units in found.values()], [share.spare for share in shares])

    def of_mailbox(self, type_: str) -> tuple[int, timedelta] | None:
        """How many emails of a type a mailbox may get within how long; one limit holds for all mailboxes."""
        limit = self.of(RECIPIENT, ANY_MAILBOX, type_)
        return None if limit is None or limit.most is None else (limit.most, self.window(limit))


def ask(emails: Sequence[Subject], limits: Limits, provider_of: Callable[[str], Provider]) -> Ask:
    """The columns for these emails, in their order: who comes first is served first."""
    columns = _begun(emails, limits)
    asking = _Asking(columns)
    for place, email in enumerate(emails, start=1):
        needs = limits.needs(email, provider_of)
        columns.needs.append(needs)
        asking.add(place, needs)
    if any(email.granted_at is not None for email in emails):
        for email, needs in zip(emails, columns.needs, strict=True):
            columns.share_granted.extend(needs.granted(email.granted))
    asking.finish()
    return columns


def ask_back(emails: Sequence[Subject], limits: Limits, *, mailboxes: bool = True) -> Ask:
    """The columns that give back what these emails were granted, whatever they need now. `mailboxes`: those too."""
    columns = _begun(emails, limits, mailboxes=mailboxes)
    asking = _Asking(columns)
    for place, email in enumerate(emails, start=1):
        if email.granted is not None:
            asking.add(place, email.granted)
    asking.finish()
    return columns


def _begun(emails: Sequence[Subject], limits: Limits, *, mailboxes: bool = True) -> Ask:
    """The columns of emails and their mailboxes."""
    columns = Ask()
    of_type: dict[str, tuple[int, timedelta] | None] = {}
    columns.emails.extend([email.id for email in emails])
    columns.granted_before.extend([email.granted_at for email in emails])
    for place, email in enumerate(emails if mailboxes else (), start=1):
        if email.type not in of_type:
            of_type[email.type] = limits.of_mailbox(email.type)
        if mailbox := of_type[email.type]:
            to = email.recipients
            for address in to if len(to) == 1 else dict.fromkeys(to):
                columns.mailbox_of.append(place)
                columns.addresses.append(address)
                columns.mailbox_most.append(mailbox[0])
                columns.mailbox_per.append(mailbox[1])
    return columns


@dataclass(slots=True)
class _Asking:
    """What is remembered within one ask: the distinct keys in their order, and which emails are alike."""

    columns: Ask
    place_of: dict[tuple[str, str], int] = field(default_factory=dict)
    shares: list[Share] = field(default_factory=list)
    alike: dict[int, tuple[Needs, list[int]]] = field(default_factory=dict)
    emails: Counter[int] = field(default_factory=Counter)

    def add(self, place: int, needs: Needs) -> None:
        """The shares of the email at this place. Who needs the same asks for the same keys."""
        columns, known = self.columns, self.alike.get(id(needs))
        if known is None:  # which holds the needs, so that no other gets its id
            known = self.alike[id(needs)] = (needs, [self._place(share) for share in needs.shares])
        self.emails[id(needs)] += 1
        columns.share_of.extend([place] * len(known[1]))
        columns.share_key.extend(known[1])
        columns.share_units.extend(needs.units)
        columns.share_spare.extend(needs.spare)

    def _place(self, share: Share) -> int:
        """Where the share's key stands among the distinct ones; at the end if it is new."""
        place = self.place_of.setdefault((share.kind, share.key), len(self.shares) + 1)
        if place > len(self.shares):
            self.shares.append(share)
        return place

    def finish(self) -> None:
        """The columns of keys. Of each: all units, and what the last one that leaves a share free leaves."""
        columns, shares = self.columns, self.shares
        columns.kinds.extend([share.kind for share in shares])
        columns.keys.extend([share.key for share in shares])
        columns.key_most.extend([share.most for share in shares])
        columns.key_per.extend([share.per for share in shares])
        columns.key_day.extend([share.month_day for share in shares])
        columns.key_provider.extend([share.provider for share in shares])
        demand, spare = [0] * len(shares), {}
        for needs, keys in self.alike.values():
            for key, units, left in zip(keys, needs.units, needs.spare, strict=True):
                demand[key - 1] += units * self.emails[id(needs)]
                if left:
                    spare[key] = left
        for key, left in spare.items():
            demand[key - 1] += left
        columns.key_demand.extend(demand)


def _domains(recipients: tuple[str, ...]) -> dict[str, int]:
    """The domains of an email's recipients, and how many recipients each has."""
    if len(recipients) == 1:
        return {recipients[0].rpartition("@")[2]: 1}
    found: dict[str, int] = {}
    for address in dict.fromkeys(recipients):
        domain = address.rpartition("@")[2]
        found[domain] = found.get(domain, 0) + 1
    return found
