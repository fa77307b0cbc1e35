"""What would keep a daemon from sending, found before it does. Sends no email, changes nothing.

Each finding says what is so and, where it is not good, what to do. A note is something that works, but not as well as
it could; it is no failure.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from outboxd.config import Config
from outboxd.core.outcome import Paused, Rejected, Sent, Throttled
from outboxd.db import contract, probe
from outboxd.db.probe import Facts
from outboxd.errors import ConfigError, DatabaseError, OutboxdError
from outboxd.resend.classify import classify
from outboxd.resend.client import Client, shared_ssl_context

CLOCK: Final = 5.0  # seconds that two clocks may differ
OLDEST: Final = 150000  # server_version_num
DIRECT: Final = "set database.listen_url to the server itself, so that new mail wakes the daemon"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check-up. `remedy` is empty where nothing is to be done."""

    name: str
    grade: Literal["ok", "note", "FAIL"]
    detail: str
    remedy: str = ""


def findings(config: Config) -> Iterator[Finding]:
    """One after the other, as they are found. What makes no sense after a failure is left out."""
    yield Finding("config", "ok", "readable, and complete")
    reachable = False
    for finding in _server(config):
        reachable = finding.grade != "FAIL"
        yield finding
        if not reachable:
            break
    if reachable:
        for look in (_pooler, _schema, _grants, _adopted, _pauses, _listener):
            yield _guarded(look.__name__[1:], look, config)
    yield _guarded("provider", _provider, config)


def clock(ahead: float) -> Finding:
    """What to say about the server's clock, `ahead` seconds of ours."""
    if abs(ahead) <= CLOCK:
        return Finding("clock", "ok", f"{ahead:+.3f} s against ours")
    return Finding(
        "clock",
        "FAIL",
        f"the database's clock is {ahead:+.0f} s against ours",
        "emails fall due by the database's clock: synchronise both (chrony, systemd-timesyncd)",
    )


def _server(config: Config) -> Iterator[Finding]:
    try:
        facts = probe.facts(config.database.url.reveal())
    except DatabaseError as error:
        yield Finding(
            "database", "FAIL", str(error), "mend database.url, or start the server and let this host in"
        )
        return
    yield _takes_writes(facts)
    yield _version(facts)
    yield clock(facts.clock_ahead)


def _takes_writes(facts: Facts) -> Finding:
    if facts.standby:
        return Finding("database", "FAIL", "is a standby", "point database.url at the primary")
    return Finding("database", "ok", "reachable, takes writes")


def _version(facts: Facts) -> Finding:
    name = f"PostgreSQL {facts.version // 10000}.{facts.version % 10000}"
    if facts.version < OLDEST:
        return Finding("version", "FAIL", name, f"outboxd needs PostgreSQL {OLDEST // 10000} or newer")
    return Finding("version", "ok", name)


def _pooler(config: Config) -> Finding:
    if not probe.facts(config.database.url.reveal()).pooled:
        return Finding("pooler", "ok", "none in transaction mode before the database")
    return Finding(
        "pooler",
        "note",
        "database.url goes through a pooler in transaction mode: everything works through it but LISTEN",
        "" if config.database.listen_url else DIRECT,
    )


def _schema(config: Config) -> Finding:
    try:
        contract.check(config.database.url.reveal())
    except OutboxdError as error:
        what, _, remedy = str(error).partition(": ")
        return Finding("schema", "FAIL", what, remedy)
    return Finding("schema", "ok", f"is at {contract.head()}")


def _grants(config: Config) -> Finding:
    role, missing = probe.lacking(config.database.url.reveal())
    if not missing:
        return Finding("grants", "ok", f"{role} may do what the daemon does")
    return Finding(
        "grants",
        "FAIL",
        f"{role} lacks {', '.join(missing)}",
        f"grant outboxd_daemon to {role}; if it is a member, run `outboxd migrate` again",
    )


def _adopted(config: Config) -> Finding:
    """The daemon observes a database that another environment or key sends from, or that is a copy."""
    found = probe.strange(config.database.url.reveal(), config.environment, config.resend.api_key.reveal())
    if found is None:
        return Finding("adopted", "ok", "by nobody yet: the first daemon makes this database its own")
    if not found:
        return Finding("adopted", "ok", "this environment and key send from this database")
    return Finding(
        "adopted",
        "FAIL",
        f"a daemon would only observe: {'; '.join(found)}",
        "run `outboxd adopt`; where only the key is new, reload a daemon that runs with the old one instead",
    )


def _pauses(config: Config) -> Finding:
    found = probe.pauses(config.database.url.reveal())
    if not found:
        return Finding("pauses", "ok", "nothing is paused")
    return Finding(
        "pauses",
        "note",
        "; ".join(found),
        "outboxd probes its own pauses; `outboxd accounts resume` ends one at once",
    )


def _listener(config: Config) -> Finding:
    url = config.database.url.reveal()
    listen = config.database.listen_url
    if probe.hears(listen.reveal() if listen else url, url):
        return Finding("listener", "ok", "hears notifications")
    if listen is None and probe.facts(url).pooled:
        return Finding("listener", "note", "hears nothing through the pooler: new mail is polled", DIRECT)
    return Finding(
        "listener",
        "FAIL",
        "hears nothing: new mail is polled, and goes later",
        "database.listen_url must reach the server of database.url itself, not a pooler, and the same database",
    )


def _provider(config: Config) -> Finding:
    """Ask with an empty body: a good key, also one for sending only, is told that the body is wrong."""
    client = Client(
        config.resend.api_url,
        config.resend.api_key.reveal,
        deadline=config.resend.deadline,
        ssl_context=shared_ssl_context(config.resend.ca_file),
        proxy=config.resend.proxy.reveal() if config.resend.proxy else None,
    )
    outcome = classify(client.send(b"{}", "outboxd-check"), now=datetime.now(UTC))
    client.close()
    where = config.resend.api_url
    match outcome:
        case Rejected(failure) if failure.kind == "message":
            return Finding("provider", "ok", f"{where} knows the key")
        case Throttled():
            return Finding("provider", "note", f"{where} says: too many requests", "check again later")
        case Paused(failure):
            return Finding(
                "provider",
                "FAIL",
                f"{where} refuses: {failure.message}",
                "mend resend.api_key, or the account",
            )
        case Sent():
            return Finding(
                "provider",
                "FAIL",
                f"{where} accepted an empty email",
                "that is not Resend: mend resend.api_url",
            )
        case other:
            reason = getattr(getattr(other, "failure", None), "message", type(other).__name__)
            return Finding(
                "provider",
                "FAIL",
                f"{where}: {reason}",
                "mend resend.api_url, resend.proxy, or the way to it",
            )


def _guarded(name: str, look: Callable[[Config], Finding], config: Config) -> Finding:
    try:
        return look(config)
    except ConfigError as error:
        return Finding(name, "FAIL", "; ".join(error.mistakes), "mend the configuration")
    except OutboxdError as error:
        return Finding(
            name, "FAIL", str(error), "mend what it names; `database.url` needs the daemon's rights"
        )
