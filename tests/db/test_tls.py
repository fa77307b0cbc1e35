"""TLS to Postgres: `verify-full` lets in the right name under the right CA, and says clearly what else is wrong."""

import asyncio
import contextlib
import functools
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import trustme
from psycopg.conninfo import conninfo_to_dict
from servers import fresh_database

from outboxd.db.refusal import reason


class Terminator:
    """Ends TLS in front of a server, as a balancer does: not every server that tests run on was built with it."""

    def __init__(self, server: str, context: ssl.SSLContext) -> None:
        self._target = conninfo_to_dict(server)
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._listener = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        ).result(10)
        self.port = self._listener.sockets[0].getsockname()[1]

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self._listener.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            assert await reader.readexactly(8) == bytes.fromhex("0000000804d2162f")  # SSLRequest
            writer.write(b"S")
            await writer.drain()
            await writer.start_tls(self._context)
            host, port = self._target["host"], self._target.get("port", "5432")
            if host.startswith("/"):
                inner = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            else:
                inner = await asyncio.open_connection(host, int(port))
            await asyncio.gather(self._pipe(reader, inner[1]), self._pipe(inner[0], writer))
        writer.close()

    async def _pipe(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()


def through(port: int, folder: Path, database: str, host: str, ca: str) -> str:
    parts = conninfo_to_dict(database)
    login = ":".join(filter(None, (parts.get("user"), parts.get("password"))))
    return (
        f"postgresql://{login}@{host}:{port}/{parts['dbname']}?sslmode=verify-full&sslrootcert={folder / ca}"
    )


@pytest.fixture(scope="module")
def url(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], str]]:
    """An empty database by a host's name and the file of a CA; the certificate is for "localhost"."""
    folder, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other_ca.pem")
    terminator = Terminator(server, context)
    for database in fresh_database(server, "template0"):
        yield functools.partial(through, terminator.port, folder, database)
    terminator.close()


def outboxd(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OUTBOXD_")}
    environment = clean | {
        "DATABASE_URL": url,
        "RESEND_API_KEY": "re_test",
        "RESEND_API_URL": "http://127.0.0.1:9",
    }
    command = [sys.executable, "-m", "outboxd", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_right_name_under_the_right_ca_connects_encrypted(url):
    right = url("localhost", "ca.pem")
    assert outboxd(right, "migrate").returncode == 0
    with psycopg.connect(right) as conn:
        assert conn.pgconn.ssl_in_use
    assert "reachable" in outboxd(right, "check").stdout


@pytest.mark.parametrize(
    ("host", "ca", "words"),
    [
        ("127.0.0.1", "ca.pem", ("does not match host name", "a name that is in the server's certificate")),
        (
            "localhost",
            "other_ca.pem",
            ("certificate verify failed", "not signed by a CA that sslrootcert names"),
        ),
        ("localhost", "missing.pem", ("root certificate file", "sslrootcert=system")),
    ],
)
def test_what_is_wrong_is_said_with_its_remedy(url, host, ca, words):
    wrong = url(host, ca)
    migrated, checked = outboxd(wrong, "migrate"), outboxd(wrong, "check")
    assert migrated.returncode == checked.returncode == 1
    for text in (migrated.stderr, checked.stdout):
        assert "cannot reach the database" in text
        for word in words:
            assert word in text
    assert "Traceback" not in migrated.stderr + checked.stderr


def test_of_several_attempts_the_reasons_are_named_and_not_their_number():
    error = psycopg.OperationalError(
        "Multiple connection attempts failed. All failures were:\n"
        "- host: 'a', port: '1': SSL error: certificate verify failed\n"
        "- host: 'b', port: '1': SSL error: certificate verify failed"
    )
    assert reason(error).startswith(
        "host: 'a', port: '1': SSL error: certificate verify failed (the server's"
    )
