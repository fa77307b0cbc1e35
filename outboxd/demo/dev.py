"""Everything that an application under development needs: a database with the schema, a local Resend, the daemon.

Ends by itself only when the daemon does, which is an error. On Linux nothing is left running, whatever ends it.
"""

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from string import Template
from typing import Final

import psycopg

from outboxd.db.migrate import migrate
from outboxd.demo.process import daemon_process
from outboxd.demo.run import lift_limits
from outboxd.errors import OutboxdError
from outboxd.localpg import LocalPostgres
from outboxd.sink.options import SinkOptions
from outboxd.sink.server import running_sink

LOOK: Final = 0.5  # seconds between looks at the daemon
WELCOME: Final = Template("""
  database   $database
  API        $api   (RESEND_API_URL; the Node SDK reads RESEND_BASE_URL; any key that starts with re_)
  inbox      $api/

Insert an email as your application will, and see it in the inbox:

  insert into outboxd.email (type, payload) values ('welcome',
    '{"from": "Shop <hi@shop.example>", "to": "ada@example.org", "subject": "Hello", "html": "<p>Hi</p>"}');

Ctrl-C stops everything.""")
OTHERS: Final = "select host, pid from outboxd.workers where state = 'running'"


def develop(
    database_url: str | None,
    *,
    port: int,
    database_port: int,
    rate_limit: int | None,
    say: Callable[[str], None],
) -> None:
    """Run until SIGINT or SIGTERM. Without a URL the database is a local one, and as short-lived as we are.

    Raises OutboxdError where a part cannot start or the daemon ends.
    """
    stop = threading.Event()
    with _signals(stop), _database(database_url, database_port, say) as url:
        migrate(url)
        if database_url is None:
            lift_limits(url)
        _refuse_company(url)
        with (
            running_sink(SinkOptions(port=port, rate_limit=rate_limit)) as sink,
            daemon_process(
                url, sink.url, api_key="re_dev_only_local", level="warning", quiet=False
            ) as process,
        ):
            say(WELCOME.substitute(database=url, api=sink.url))
            _watch(process, stop)
            say("stopping …")


@contextlib.contextmanager
def _database(url: str | None, port: int, say: Callable[[str], None]) -> Iterator[str]:
    if url is not None:
        yield url
        return
    say("starting a local Postgres; what is in it ends with this program (--database URL keeps it) …")
    port = _free(port)
    with LocalPostgres(port=port):
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"


def _free(port: int) -> int:
    """A port that nobody listens on; 0 means any."""
    try:
        with socket.create_server(("127.0.0.1", port)) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        raise OutboxdError(
            f"cannot listen on 127.0.0.1:{port} ({error.strerror}): choose another --database-port"
        ) from None


def _refuse_company(url: str) -> None:
    """Another daemon on this database sends for real, and we would take its emails for the inbox."""
    with psycopg.connect(url) as conn:
        for host, pid in conn.execute(OTHERS).fetchall():
            if host != socket.gethostname() or _lives(pid):
                raise OutboxdError(
                    f"a daemon runs on this database already ({host}, pid {pid}): stop it, or use another database"
                )


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    previous = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _watch(process: "subprocess.Popen[bytes]", stop: threading.Event) -> None:
    while not stop.wait(LOOK):
        if process.poll() is not None:
            raise OutboxdError(f"the daemon ended with {process.returncode}")
