"""What a person does by hand to what is asked for: look at accounts, pause, resume. Written to the operators' log."""

from datetime import datetime

from psycopg.rows import DictRow

from outboxd.db.command import rows
from outboxd.db.query import query


def accounts(url: str) -> list[DictRow]:
    """Every provider account with its rate, pause and breaker. Raises `DatabaseError`."""
    return rows(url, query("operation/accounts"), {})


def pause(url: str, kind: str, key: str, *, reason: str, until: datetime | None) -> None:
    """Stop asking for it, for every daemon within a second. Raises `DatabaseError` naming what is wrong."""
    rows(url, query("operation/pause"), {"kind": kind, "key": key, "reason": reason, "until": until})


def resume(url: str, kind: str, key: str) -> list[str]:
    """Ask for it again; what of it was stopped: its kind, and `breaker` where an account's was open."""
    kinds = [kind, "breaker"] if kind == "account" else [kind]
    return [row["kind"] for row in rows(url, query("operation/resume"), {"kinds": kinds, "key": key})]
