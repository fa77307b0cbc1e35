"""Secrets and personal data, planted and searched for wherever a running daemon could show them, while much fails."""

import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import urlopen

import psycopg
import pytest
from conftest_path import count, drained, quick_breaker
from factories import insert, payload, uid_of
from waiting import until

pytestmark = [pytest.mark.path, pytest.mark.slow]

KEY = "re_canary_9f8e7d6c5b"
PASSWORD = "pw-canary-5a4b3c"
ADDRESS = "canary.person@example.org"
SUBJECT = "Canary subject 7261"
LINK = "https://shop.example/reset?token=canary-token-8812"
CANARIES = (KEY, PASSWORD, ADDRESS, "canary.person", SUBJECT, "canary-token-8812")
FAULTS = (
    "422",
    "500.1",
    "reset.1",
    "accept-reset.1",
    "html-502.1",
    "hang.1",
    "not-json.1",
    "conflict",
    "429.1",
    "huge.1",
)


def shown(text: str) -> list[str]:
    return [canary for canary in CANARIES if canary in text]


def url_with_password(conn: psycopg.Connection, database: str) -> str:
    if conn.execute("select to_regrole('outboxd_canary')").fetchone() == (None,):
        conn.execute(f"create role outboxd_canary login password '{PASSWORD}' in role outboxd_daemon")
    parts = urlsplit(database)
    netloc = f"outboxd_canary:{quote(PASSWORD)}@{parts.netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=netloc))


def of_processes(pid: int) -> str:
    """The arguments of the daemon and all below it, and the environments of those below."""
    found = Path(f"/proc/{pid}/cmdline").read_bytes()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread, or who looked up a name, has ended
            for child in (task / "children").read_text().split():
                for name in ("cmdline", "environ"):
                    found += Path(f"/proc/{child}/{name}").read_bytes()
    return found.decode(errors="replace")


def much_fails(conn: psycopg.Connection) -> None:
    for fault in FAULTS:
        for _ in range(1 if fault == "429.1" else 3):  # after a second one nobody asks for ten seconds
            to = [f"fault+{fault}@example.org", f"Canary Person <{ADDRESS}>"]
            insert(conn, body=payload(to=to, subject=SUBJECT, html=f"<a href='{LINK}'>reset</a>"))
    for text in ('{"to": "%s\\n"}', '{"to": ["%s"], "subject": 5}', '["%s"]', '{"to": {"%s": 1}}'):
        id_ = insert(conn, body=payload(to=ADDRESS))
        conn.execute("update outboxd.email set payload = %s where id = %s", (text % ADDRESS, id_))
    conn.execute("select outboxd.suppress('gone@example.org', 'admin')")
    id_ = insert(conn, body=payload(to=["gone@example.org"]))
    conn.execute("update outboxd.email set payload = %s where id = %s", (f'{{"to": ["{ADDRESS}@x"]}}', id_))


class Collector(ThreadingHTTPServer):
    """Takes traces and metrics as OpenTelemetry's collector does: protobuf, in which text is text."""

    def __init__(self) -> None:
        self.traces, self.metrics = b"", b""
        super().__init__(("127.0.0.1", 0), _Taken)


class _Taken(BaseHTTPRequestHandler):
    def do_POST(self) -> None:  # http.server's name
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/traces":
            self.server.traces += body
        else:
            self.server.metrics += body
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the test asks what came."""


@pytest.fixture
def collector():
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def exported(collector: Collector, uid: str) -> str:
    """What left as traces and metrics, with this email's span and the outcomes of asks in it."""
    traces, measured = (told.decode(errors="replace") for told in (collector.traces, collector.metrics))
    assert "process transactional" in traces
    assert uid in traces
    assert "outboxd.asks" in measured
    assert "rejected" in measured
    return traces + measured


def of_health(port: int) -> str:
    web = ""
    for path in ("/livez", "/readyz"):
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                web += answer.read().decode()
        except HTTPError as refused:
            web += refused.read().decode()
    return web


def test_no_canary_is_in_logs_arguments_activity_metrics_traces_or_health_while_much_fails(
    database, conn, sink, daemon, collector
):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    conn.execute("update outboxd.queue set backoff = 'fixed', backoff_base = '50 ms'")
    quick_breaker(conn, "100 ms")
    running = sink()
    one = daemon(
        running.url, url=url_with_password(conn, database), RESEND_API_KEY=KEY, OUTBOXD_LOG__LEVEL="debug",
        OUTBOXD_RESEND__DEADLINE="1s", OUTBOXD_SENDER__LEASE="11s", OUTBOXD_HEALTH__LISTEN=f"127.0.0.1:{port}",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}", own=True,
        OTEL_METRIC_EXPORT_INTERVAL="500", OTEL_BSP_SCHEDULE_DELAY="200",
    )  # fmt: skip
    activity, stop = set(), threading.Event()

    def watch() -> None:
        with psycopg.connect(database, autocommit=True) as looking:
            while not stop.wait(0.02):
                rows = looking.execute(
                    "select query, application_name from pg_stat_activity where usename = 'outboxd_canary'"
                ).fetchall()
                activity.update(f"{query} {name}" for query, name in rows)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        much_fails(conn)
        processes = of_processes(one.process.pid)
        web = of_health(port)
        conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'outboxd_canary'"
        )
        until(
            lambda: count(conn, "dead_letter") >= 8 and count(conn, "lease") == 0,
            within=60,
            what="the failures",
        )
        until(lambda: drained(conn) or count(conn, "pause") > 0, within=150, what="the rest")
    finally:
        stop.set()
        watcher.join()
    one.terminate()
    log = one.log.read_text()
    assert "email ended as" in log, "nothing failed"
    assert len(activity) > 5, "nothing was seen of the daemon"
    assert shown(log) == []
    assert shown(processes) == []
    assert shown("\n".join(activity)) == []
    assert shown(web) == []
    assert shown(exported(collector, str(uid_of(conn, 1)))) == []


def test_no_canary_is_in_the_error_of_a_daemon_that_cannot_start(database):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OUTBOXD_")}
    for wrong in (
        {"DATABASE_URL": f"postgresql://canary:{PASSWORD}@127.0.0.1:1/none"},
        {"DATABASE_URL": f"postgresql://canary:{PASSWORD}@[::1/none"},
        {"DATABASE_URL": database, "OUTBOXD_RESEND__PROXY": f"http://user:{PASSWORD}@["},
        {"DATABASE_URL": f"host=127.0.0.1 port=1 password={PASSWORD} nonsense={PASSWORD}"},
    ):
        command = [sys.executable, "-m", "outboxd", "check"]
        done = subprocess.run(
            command,
            env=clean | {"RESEND_API_KEY": KEY} | wrong,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode != 0
        assert shown(done.stdout + done.stderr) == [], done.stderr
