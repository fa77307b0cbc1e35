"""Configuration: what one daemon needs to know. What a fleet must agree on is data in Postgres instead.

Later sources win: defaults, the TOML file, credentials and well-known variables (`DATABASE_URL`, `RESEND_API_KEY`,
`RESEND_API_URL`), `OUTBOXD_SECTION__KEY`, options of the command. Every mistake is reported at once, with the key's
path and what was probably meant. Secrets never show: not in a repr, not in an error.

This is the only module that reads the environment.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from outboxd.core.secret import Secret
from outboxd.errors import ConfigError
from outboxd.setting import (
    between,
    duration,
    lasting,
    meant,
    not_empty,
    one_of,
    proxy_address,
    setting,
    web_address,
)

DEFAULT_FILE: Final = Path("/etc/outboxd/outboxd.toml")
CREDENTIALS: Final = {"resend_api_key": "resend.api_key", "database_url": "database.url"}
LONGEST_LEASE: Final = timedelta(seconds=60)
LEASE_MARGIN: Final = timedelta(seconds=10)
HIGHEST_PORT: Final = 65535
LOOKS: Final = (
    "it looks like postgresql://user@host:5432/database; in a password, %40 is @, %2F is / and %25 is %"
)


def connection(url: Secret) -> str | None:
    """A check for what libpq takes, by libpq; of ports too, which it reads only when it connects.

    Its own words are not passed on: they repeat pieces of the URL.
    """
    import psycopg.conninfo  # noqa: PLC0415 - only where there is one to check

    try:
        parts = psycopg.conninfo.conninfo_to_dict(url.reveal())
    except (psycopg.Error, ValueError):
        return f"cannot be read; {LOOKS}"
    ports = str(parts.get("port") or "").replace(",", " ").split()
    if all(re.fullmatch(r"0{0,9}[1-9][0-9]{0,4}", port) and int(port) <= HIGHEST_PORT for port in ports):
        return None
    return f"has a port that is not a number between 1 and {HIGHEST_PORT}; {LOOKS}"


def certificates(file: str) -> str | None:
    """A check for a PEM file that TLS can take its trust from."""
    import ssl  # noqa: PLC0415 - only where there is a file to check

    trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if file:
            trusted.load_verify_locations(file)
    except ssl.SSLError:
        return f"{file} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)"
    except (OSError, ValueError) as error:
        return f"{file} cannot be read ({getattr(error, 'strerror', error)}): name a file that this user may read"
    return None if not file or trusted.cert_store_stats()["x509"] else f"{file} holds no certificate"


@dataclass(frozen=True, slots=True)
class Database:
    """Where Postgres is."""

    url: Secret = setting(
        Secret(""),
        "Connection URL. `DATABASE_URL` and the credential `database_url` are honoured.",
        connection,
    )
    listen_url: Secret | None = setting(
        None, "A direct URL for LISTEN where `url` goes through a pooler. Default: `url`.", connection
    )
    after_failover: str = setting(
        "send",
        "After a standby's promotion: `send` on, or `hold` all that was due by then until `outboxd adopt`.",
        one_of("send", "hold"),
    )


@dataclass(frozen=True, slots=True)
class Resend:
    """The provider account."""

    api_key: Secret = setting(
        Secret(""), "A sending key. `RESEND_API_KEY` and the credential `resend_api_key` are honoured."
    )
    api_url: str = setting(
        "https://api.resend.com", "Where the API is. `RESEND_API_URL` is honoured.", web_address
    )
    deadline: timedelta = setting(
        timedelta(seconds=20), "How long one request may take in total; 1s to 45s.", lasting("1s", "45s")
    )
    account: str = setting(
        "default",
        "Names the account. An email with an open answer is asked again only at the account where it was asked first.",
        not_empty,
    )
    proxy: Secret | None = setting(
        None,
        "An HTTP proxy through which requests go (CONNECT), with credentials if it wants any. The environment's proxies are not used.",
        proxy_address,
    )
    ca_file: str = setting(
        "",
        "A PEM file of certificates to trust instead of the public ones, for a proxy that ends TLS.",
        certificates,
    )


@dataclass(frozen=True, slots=True)
class Sender:
    """How this daemon sends."""

    threads: int = setting(20, "Requests at a time: 1 to 256; beyond 64 to 96 no gain.", between(1, 256))
    lease: timedelta = setting(
        timedelta(seconds=60),
        "How long a claim lasts, and so how soon a killed daemon's emails are asked again. At least `resend.deadline` + 10 s, at most 60s.",
        lasting("5s", "60s"),
    )
    crash_limit: int = setting(
        3,
        "An email is quarantined when this many leases in a row ended without an outcome. 0 to 100; 0: never, for harnesses that kill at random.",
        between(0, 100),
    )


@dataclass(frozen=True, slots=True)
class Health:
    """Where the daemon answers `/livez` and `/readyz`."""

    listen: str = setting(
        "127.0.0.1:8026",
        "Address and port; empty for none. A port in use is a warning, not an error.",
        lambda value: (
            None if not value or re.fullmatch(r".+:\d{1,5}", value) else "must look like 127.0.0.1:8026"
        ),
    )


@dataclass(frozen=True, slots=True)
class Log:
    """What is written to standard error."""

    format: str = setting(
        "auto",
        "`journal` (entries with fields) where systemd's journal listens, `text` on a terminal, `json` elsewhere; or one of them.",
        one_of("auto", "json", "text", "journal"),
    )
    level: str = setting(
        "info", "`debug`, `info`, `warning` or `error`.", one_of("debug", "info", "warning", "error")
    )


@dataclass(frozen=True, slots=True)
class Config:
    """All of it."""

    environment: str = setting(
        "production",
        "Names what this database is for. A copy of it that runs under another name does not send until `outboxd adopt`.",
        not_empty,
    )
    database: Database = field(default_factory=Database)
    resend: Resend = field(default_factory=Resend)
    sender: Sender = field(default_factory=Sender)
    health: Health = field(default_factory=Health)
    log: Log = field(default_factory=Log)


def environment() -> Mapping[str, str]:
    """The process's environment."""
    return os.environ


def load(
    path: Path | str | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
    *,
    require: frozenset[str] = frozenset(),
) -> Config:
    """Merge all sources and build. Raises `ConfigError` with every mistake; `require` names keys that must be set."""
    mistakes: list[str] = []
    values: dict[str, tuple[object, str]] = {}
    for source, found in (
        _from_file(path, environ, mistakes),
        ("credential", _from_credentials(environ, mistakes)),
        ("environment", _from_well_known(environ)),
        ("environment", _from_environment(environ)),
        ("option", dict(overrides or {})),
    ):
        values |= {key: (value, source) for key, value in found.items()}
    config = _build(values, mistakes)
    _check_together(config, mistakes)
    named = {mistake.partition(":")[0] for mistake in mistakes}
    mistakes += [_missing(key) for key in sorted(require - named) if not _value_at(config, key)]
    if mistakes:
        raise ConfigError(mistakes)
    return config


def _from_file(
    path: Path | str | None, environ: Mapping[str, str], mistakes: list[str]
) -> tuple[str, dict[str, object]]:
    named = path or environ.get("OUTBOXD_CONFIG")
    file = Path(named) if named else DEFAULT_FILE
    if not named and not file.exists():
        return "file", {}
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        mistakes.append(f"{file}: cannot be read ({error.strerror})")
        return str(file), {}
    except (ValueError, RecursionError) as error:  # a whole number of 5,000 digits is a plain ValueError
        mistakes.append(f"{file}: is not TOML: {error}")
        return str(file), {}
    found: dict[str, object] = {}
    for section, table in tables.items():
        if isinstance(table, dict):
            found |= {f"{section}.{key}": value for key, value in table.items()}
        else:
            found[section] = table
    return str(file), found


def _from_credentials(environ: Mapping[str, str], mistakes: list[str]) -> dict[str, object]:
    """The manager's credentials do not change while a service runs: a newer one is handed over in its runtime folder."""
    found: dict[str, object] = {}
    for variable in ("CREDENTIALS_DIRECTORY", "RUNTIME_DIRECTORY"):
        folder = environ.get(variable, "").partition(":")[0]
        try:
            for name, key in CREDENTIALS.items():
                if folder and (file := Path(folder) / name).exists():
                    found[key] = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            mistakes.append(f"the credentials in ${variable} cannot be read")
    return found


def _from_well_known(environ: Mapping[str, str]) -> dict[str, object]:
    known = {
        "DATABASE_URL": "database.url",
        "RESEND_API_KEY": "resend.api_key",
        "RESEND_API_URL": "resend.api_url",
        "OUTBOXD_ENVIRONMENT": "environment",
    }
    return {key: environ[name] for name, key in known.items() if environ.get(name)}


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in environ.items():
        section, separator, key = name.removeprefix("OUTBOXD_").lower().partition("__")
        if name.startswith("OUTBOXD_") and separator:
            found[f"{section}.{key}"] = value
    return found


def _build(values: dict[str, tuple[object, str]], mistakes: list[str]) -> Config:
    sectioned = [part for part in fields(Config) if part.default is MISSING]
    known = {part.name: part for part in fields(Config) if part.default is not MISSING}
    known |= {f"{part.name}.{item.name}": item for part in sectioned for item in fields(_section(part))}
    for key in [key for key in values if key not in known]:
        _, source = values.pop(key)
        mistakes.append(f"{key}: unknown key ({source}){meant(key, known)}")
    given = {key: _read(key, known[key], value, mistakes) for key, (value, _) in values.items()}
    sections: dict[str, Any] = {
        key: value for key, value in given.items() if "." not in key and value is not MISSING
    }
    for part in sectioned:
        kind = _section(part)
        mine = {item.name: given.get(f"{part.name}.{item.name}", MISSING) for item in fields(kind)}
        sections[part.name] = kind(**{name: value for name, value in mine.items() if value is not MISSING})
    return Config(**sections)


def _section(part: "Field[Any]") -> Any:
    kind = part.default_factory
    assert is_dataclass(kind)
    return kind


def _read(key: str, item: "Field[Any]", value: object, mistakes: list[str]) -> object:
    """The value in its field's type; the default, and a mistake, where it does not fit."""
    try:
        read = _converted(item, value)
    except ValueError as error:
        mistakes.append(f"{key}: {error}")
        return MISSING
    check = item.metadata["check"]
    problem = check(read) if check else None
    if problem:
        mistakes.append(f"{key}: {problem}")
        return MISSING
    return read


def _converted(item: "Field[Any]", value: object) -> object:
    if isinstance(item.default, Secret) or item.default is None:
        if not isinstance(value, str):
            raise ValueError("must be a string")
        return Secret(value)
    if isinstance(item.default, timedelta):
        return duration(value)
    if isinstance(item.default, int):
        return _whole(value)
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {value!r}")
    return value.rstrip("/") if item.name.endswith("url") else value


def _whole(value: object) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"-?\d{1,9}", str(value)):
        raise ValueError(f"must be a whole number, not {value!r}")
    return int(str(value))


def _check_together(config: Config, mistakes: list[str]) -> None:
    least = config.resend.deadline + LEASE_MARGIN
    if config.sender.lease < least:
        mistakes.append(
            f"sender.lease: {config.sender.lease.total_seconds():g}s is too short for resend.deadline "
            f"{config.resend.deadline.total_seconds():g}s: needs at least {least.total_seconds():g}s"
        )


def _missing(key: str) -> str:
    wells = {"database.url": "DATABASE_URL", "resend.api_key": "RESEND_API_KEY"}
    return f"{key}: is missing; set it in the file or as {wells.get(key, 'OUTBOXD_' + key.upper().replace('.', '__'))}"


def _value_at(config: Config, key: str) -> object:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)
