"""One server per run, one migrated template, one database per test.

The server: `--pg URL` if given, else Docker (testcontainers) where its engine answers, else a local one. The header
says which. A server that was asked for and is missing fails the run; nothing is skipped.
"""

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import psycopg
import pytest

from outboxd.localpg import LocalPostgres

sys.path.insert(0, str(Path(__file__).parent))

from servers import FAST, binaries, fresh_database, kind_of_server, memory, start_server, url_for

hypothesis.settings.register_profile("busy", deadline=None)  # a busy machine is not a failure
hypothesis.settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pg", default=os.environ.get("OUTBOXD_TEST_PG", "auto"), help="auto, docker, local or a URL"
    )
    parser.addoption(
        "--via-pgbouncer", action="store_true", help="daemons of the path reach Postgres through pgbouncer"
    )
    parser.addoption("--pg-version", default="18", help="15 to 18: which local binaries or image")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread what is slow over the first quarter, so that no worker waits for another's at the end."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    spread = [item for item in items if not item.get_closest_marker("slow")]
    gap = max(1, len(items) // 4 // max(1, len(slow)))
    for place, item in enumerate(slow):
        spread.insert(place * gap, item)
    items[:] = spread


def pytest_report_header(config: pytest.Config) -> str:
    return f"postgres: {kind_of_server(config.getoption('--pg'))}, version {config.getoption('--pg-version')}"


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a server's maintenance database."""
    yield from start_server(request.config.getoption("--pg"), request.config.getoption("--pg-version"))


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
    with LocalPostgres(
        FAST, bin_dir=binaries(request.config.getoption("--pg-version")), within=memory()
    ) as local:
        yield local
