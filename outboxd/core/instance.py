"""Whether a database is the one that we know, or a copy of it: pure comparison.

What is compared: the environment's name, the server's identifier, the database's oid, the timeline, and a keyed
fingerprint of the API key. A fact that a server does not tell is not compared. A copy in which all of it is equal
cannot be told from the original.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from outboxd.core.batch import Rise


@dataclass(frozen=True, slots=True)
class Here:
    """Where we are, and as whom. `system_identifier` and `timeline` are None where the server does not tell."""

    environment: str
    api_key: str
    database_oid: int
    system_identifier: str | None
    timeline: int | None

    def __repr__(self) -> str:
        return f"Here({self.environment!r}, {self.database_oid}, {self.system_identifier}, {self.timeline})"


@dataclass(frozen=True, slots=True)
class Known:
    """What was recorded; `api_keys` are fingerprints under `instance`, `risen_at` and `risen_id` the last promotion's."""

    instance: UUID
    environment: str
    system_identifier: str | None
    database_oid: int
    timeline: int | None
    api_keys: tuple[str, ...]
    risen_at: datetime | None = None
    risen_id: int | None = None

    @property
    def rise(self) -> Rise | None:
        """The last promotion of a standby that was seen; None where none was."""
        if self.risen_at is None or self.risen_id is None:
            return None
        return Rise(self.risen_at, self.risen_id)


def fingerprint(api_key: str, instance: UUID) -> str:
    """Tells keys apart within one database; says nothing about the key, and nothing in another database."""
    return hmac.new(api_key.encode(), instance.bytes, hashlib.sha256).hexdigest()[:32]


def differences(known: Known, here: Here) -> Mapping[str, str]:
    """What is not as recorded: the fact's name and a sentence for a person. Empty: it is the database we know."""
    found = {}
    if here.environment != known.environment:
        found["environment"] = (
            f"the environment is {here.environment!r}, and was {known.environment!r} in this database"
        )
    if fingerprint(here.api_key, known.instance) not in known.api_keys:
        found["api_key"] = "the API key is not the one that sent from this database"
    if _differ(here.system_identifier, known.system_identifier):
        found["system_identifier"] = "the server is another one (a restore, a copy, or pg_upgrade)"
    if here.database_oid != known.database_oid:
        found["database_oid"] = "the database is another one of its server"
    if here.timeline is not None and known.timeline is not None and here.timeline < known.timeline:
        found["timeline"] = f"the timeline is {here.timeline}, and was {known.timeline} (an old primary)"
    return found


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other
