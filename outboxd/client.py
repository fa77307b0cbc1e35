"""For applications: insert an email in the caller's own transaction.

`enqueue` is one SQL call on whatever holds that transaction; it never commits, and a rollback takes the email back.
Imports nothing heavy: the application's own driver is recognised by its type's module, never imported.
"""

import base64
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, ClassVar, Final
from uuid import UUID

PARAMETERS: Final = (
    "type", "queue", "dedupe_key", "on_duplicate", "scheduled_at", "expires_at", "priority", "max_attempts", "guard",
    "after", "campaign", "tenant", "trace",
)  # fmt: skip
CASTS: Final = {
    "payload": "jsonb", "scheduled_at": "timestamptz", "expires_at": "timestamptz", "priority": "smallint",
    "max_attempts": "smallint", "after": "jsonb", "trace": "jsonb",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file; `content_id` makes it an inline image (`<img src="cid:…">`)."""

    filename: str
    content: bytes
    content_type: str | None = None
    content_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Email:
    """One email in Resend's shape. Addresses are `ada@example.org` or `Ada <ada@example.org>`.

    `from_` may be left out once the application has set `Email.default_from`. One recipient per email is the safe
    choice: the provider's events do not say which recipient of several they mean.
    """

    default_from: ClassVar[str | None] = None

    to: str | Sequence[str]
    subject: str | None = None
    html: str | None = None
    text: str | None = None
    from_: str | None = None
    cc: str | Sequence[str] | None = None
    bcc: str | Sequence[str] | None = None
    reply_to: str | Sequence[str] | None = None
    headers: Mapping[str, str] | None = None
    attachments: Sequence[Attachment] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    template: Mapping[str, object] | None = None
    topic_id: str | None = None

    def payload(self) -> dict[str, Any]:
        """As it is stored. Raises `ValueError` where there is no sender."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        sender = given.pop("from_") or Email.default_from
        if sender is None and self.template is None:
            raise ValueError("from_: is missing; give it, or set Email.default_from once")
        given["attachments"] = [_attached(item) for item in self.attachments]
        given["tags"] = [{"name": name, "value": value} for name, value in self.tags.items()]
        body = {"from": sender, **given}
        return {name: _plain(value) for name, value in body.items() if value not in (None, [], ())}


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What was inserted; `duplicate` where the dedupe key was taken and nothing was."""

    id: int
    uid: UUID
    duplicate: bool


def enqueue(
    conn: Any,
    email: Email | Mapping[str, object],
    *,
    type: str,  # noqa: A002 - the column's name
    queue: str | None = None,
    dedupe_key: str | None = None,
    on_duplicate: str = "ignore",
    scheduled_at: datetime | None = None,
    expires_at: datetime | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
    guard: str | None = None,
    after: object = None,
    campaign: str | None = None,
    tenant: str | None = None,
    trace: Mapping[str, str] | None = None,
) -> Enqueued:
    """Insert one email in `conn`'s transaction.

    `conn` is a psycopg connection or cursor, an SQLAlchemy `Connection` or `Session`. Instants must have a zone.
    Where another email holds `dedupe_key`, `on_duplicate` is `ignore` (answer that one), `reject` (raise), or `replace`
    (cancel it and insert this one, only where it is certain that it does not go; else answer that one).
    Raises `ValueError` for what JSON in Postgres cannot carry, `TypeError` for an unknown `conn`, and the driver's
    own error, with a message that names the field, for what could never be sent.
    """
    values = {
        "type": type, "queue": queue, "dedupe_key": dedupe_key, "on_duplicate": on_duplicate,
        "scheduled_at": _instant("scheduled_at", scheduled_at), "expires_at": _instant("expires_at", expires_at),
        "priority": priority, "max_attempts": max_attempts, "guard": guard,
        "after": None if after is None else _json("after", after), "campaign": campaign, "tenant": tenant,
        "trace": _json("trace", trace or _current_trace()),
    }  # fmt: skip
    values["payload"] = _json("payload", _body(email))
    named = ", ".join(f"{name} => {_cast(name)}" for name in ("payload", *PARAMETERS))
    row = _execute(conn, f"select id, uid, duplicate from outboxd.enqueue({named})", values)  # noqa: S608 - constants
    return Enqueued(int(row[0]), UUID(str(row[1])), bool(row[2]))


def enqueue_many(conn: Any, items: Iterable[Mapping[str, object]]) -> list[int]:
    """Insert many in `conn`'s transaction; each item has `email` (or `payload`, a mapping) and enqueue's other parameters.

    Returns the ids in the order given.
    """
    trace = _current_trace()
    listed = [_item(dict(item), trace) for item in items]
    row = _execute(conn, "select outboxd.enqueue_many(%(items)s::jsonb)", {"items": _json("items", listed)})
    return [int(id_) for id_ in row[0]]


def _item(item: dict[str, Any], trace: Mapping[str, str] | None) -> dict[str, Any]:
    email = item.pop("email", None)
    if email is not None:
        item["payload"] = _body(email)
    if trace and not item.get("trace"):
        item["trace"] = trace
    return {
        name: _instant(name, value) if isinstance(value, datetime) else value for name, value in item.items()
    }


def _body(email: Email | Mapping[str, object]) -> dict[str, object]:
    return email.payload() if isinstance(email, Email) else dict(email)


def _execute(conn: Any, statement: str, values: Mapping[str, object]) -> Sequence[Any]:
    """Run it where the caller's transaction is, and fetch the one row as a plain sequence."""
    if type(conn).__name__.startswith("Async"):
        raise TypeError(
            f"conn: {type(conn).__qualname__} is asynchronous; call enqueue in its run_sync (SQLAlchemy), "
            "or the function outboxd.enqueue(…) in a statement of your own"
        )
    roots = {cls.__module__.partition(".")[0] for cls in type(conn).__mro__}
    if "sqlalchemy" in roots:
        connection = conn.connection() if hasattr(conn, "get_bind") else conn
        return list(connection.exec_driver_sql(statement, dict(values)).fetchone())
    if "psycopg" in roots:
        connection = conn.connection if hasattr(conn, "fetchone") else conn
        with _tuple_cursor(connection) as cursor:
            return list(cursor.execute(statement, values).fetchone())
    raise TypeError(
        f"conn: {type(conn).__module__}.{type(conn).__qualname__} is not a psycopg connection or cursor, "
        "nor an SQLAlchemy Connection or Session"
    )


def _tuple_cursor(connection: Any) -> Any:
    """A plain client-side cursor, whatever factories the application has set."""
    psycopg = sys.modules["psycopg"]
    return psycopg.Cursor(connection, row_factory=psycopg.rows.tuple_row)


def _cast(name: str) -> str:
    kind = CASTS.get(name, "text")
    return f"%({name})s::{kind}"


def _json(path: str, value: object) -> str | None:
    if value is None:
        return None
    _refuse_unstorable(path, value)
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:
        raise ValueError(f"{path}: NaN and infinity are not JSON") from None


def _refuse_unstorable(path: str, value: object) -> None:
    """NUL and lone surrogates cannot be stored in Postgres: say where they are."""
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise ValueError(f"{path}: has a NUL character or a lone surrogate")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_unstorable(f"{path}.{key}", inner)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _refuse_unstorable(f"{path}[{number}]", inner)


def _attached(item: Attachment) -> dict[str, str]:
    given = {
        "filename": item.filename,
        "content": base64.b64encode(item.content).decode("ascii"),
        "content_type": item.content_type,
        "content_id": item.content_id,
    }
    return {name: value for name, value in given.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _instant(name: str, value: datetime | None) -> str | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError(f"{name}: has no zone; use datetime.now(UTC) or an aware datetime")
    return value.isoformat()


def _current_trace() -> dict[str, str] | None:
    """The caller's trace context, where the application uses OpenTelemetry."""
    propagate = sys.modules.get("opentelemetry.propagate")
    if propagate is None:
        return None
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier or None
