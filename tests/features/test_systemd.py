"""What the service manager and its journal hear; reloads; statements that get no answer."""

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from waiting import until

from outboxd.attend import Attendant, attend, obeying_signals, reload
from outboxd.config import Config, Secret, load
from outboxd.core.outcome import Ambiguous, Failure, Sent
from outboxd.db.policy import Policies
from outboxd.db.session import ConnectionLostError, Session, connect, patient
from outboxd.delivery.slowstart import SlowStart
from outboxd.errors import ConfigError
from outboxd.journal import Journal, is_stream
from outboxd.localpg import LocalPostgres, wheel_binaries
from outboxd.providers import Providers
from outboxd.reload import Live
from outboxd.systemd import Notifier
from outboxd.telemetry import JournalHandler
from outboxd.upkeep import Keeper


class Manager:
    """Listens where NOTIFY_SOCKET points."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self._socket.settimeout(0)

    def heard(self) -> list[str]:
        found = []
        try:
            while True:
                found.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    name = str(tmp_path / "notify") if request.param == "path" else f"@outboxd-test-{os.getpid()}"
    heard = Manager(name)
    yield heard
    heard.close()


def test_the_manager_hears_each_word(manager):
    notifier = Notifier({"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "3000000"}, pid=7)
    notifier.ready()
    notifier.status("sends")
    notifier.status("sends")
    notifier.reloading()
    notifier.alive()
    notifier.alive()
    notifier.stopping()
    notifier.close()
    *others, reloading = sorted(manager.heard(), key=lambda text: text.startswith("RELOADING"))
    assert others == ["READY=1", "STATUS=sends", "WATCHDOG=1", "STOPPING=1"]
    first, instant = reloading.split("\n")
    assert first == "RELOADING=1"
    assert abs(int(instant.removeprefix("MONOTONIC_USEC=")) - time.monotonic_ns() // 1000) < 10_000_000


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_only_where_this_process_is_meant(environ, seconds):
    assert Notifier(environ, pid=7).watchdog == seconds


@pytest.mark.parametrize("name", ["", "/nowhere/at/all", "vsock:2:9999"])
def test_without_a_manager_nothing_happens(name):
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1"}, pid=7)
    notifier.ready()
    notifier.alive()
    notifier.close()


def attendant_for(live: Live, manager: Manager, **others) -> Attendant:
    notifier = Notifier({"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "300000"}, pid=os.getpid())
    parts = {
        "stop": threading.Event(), "give_up": threading.Event(), "notifier": notifier, "live": live,
        "sends": lambda: True, "alive": lambda: True, "status": lambda: "sends", "on_reload": [],
    }  # fmt: skip
    return Attendant(**(parts | others))


@contextlib.contextmanager
def ending(attendant: Attendant) -> Iterator[None]:
    """However the conductor ends, the attendant ends with it."""
    try:
        yield
    finally:
        attendant.stop.set()


def test_ready_then_fed_until_the_stop_and_a_reload_between(manager):
    told: list[int] = []
    live = Live(Config(), Config)
    attendant = attendant_for(live, manager, on_reload=[lambda: told.append(1)])
    heard: list[str] = []

    def conductor() -> None:
        with ending(attendant):
            until(lambda: heard.extend(manager.heard()) or "WATCHDOG=1" in heard, what="the watchdog fed")
            os.kill(os.getpid(), signal.SIGHUP)
            until(lambda: told, what="the reload")
            os.kill(os.getpid(), signal.SIGTERM)
            until(attendant.stop.is_set, what="the stop")

    with obeying_signals(attendant):
        thread = threading.Thread(target=conductor)
        thread.start()
        attend(attendant)
        thread.join()
    heard += manager.heard()
    attendant.notifier.close()
    order = [text.partition("\n")[0] for text in heard if not text.startswith(("STATUS", "WATCHDOG"))]
    assert order == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]
    assert not attendant.give_up.is_set()


def test_the_last_word_before_ready_is_that_it_sends_though_it_connected_between_two_looks(manager):
    connected = threading.Event()
    attendant = attendant_for(
        Live(Config(), Config),
        manager,
        sends=lambda: connected.set() or attendant.stop.set() or True,
        status=lambda: "sends" if connected.is_set() else "waits for Postgres",
    )
    attend(attendant)
    attendant.notifier.close()
    heard = [text for text in manager.heard() if not text.startswith("WATCHDOG")]
    assert heard[: heard.index("READY=1")] == ["STATUS=waits for Postgres", "STATUS=sends"]


def test_it_is_not_ready_before_it_is_connected(manager):
    connected, asked = threading.Event(), []
    attendant = attendant_for(
        Live(Config(), Config), manager, sends=lambda: bool(asked.append(1)) or connected.is_set()
    )

    def conductor() -> None:
        with ending(attendant):
            until(lambda: len(asked) > 2, what="three looks")
            heard.extend(manager.heard())
            connected.set()
            until(lambda: "READY=1" in manager.heard(), what="it to be ready")

    heard: list[str] = []
    thread = threading.Thread(target=conductor)
    thread.start()
    attend(attendant)
    thread.join()
    attendant.notifier.close()
    assert "READY=1" not in heard


def test_a_claimer_that_stands_still_starves_the_watchdog(manager):
    asked: list[int] = []
    attendant = attendant_for(Live(Config(), Config), manager, alive=lambda: bool(asked.append(1)))

    def conductor() -> None:
        with ending(attendant):
            until(lambda: len(asked) > 2, what="three beats")

    thread = threading.Thread(target=conductor)
    thread.start()
    attend(attendant)
    thread.join()
    attendant.notifier.close()
    assert "WATCHDOG=1" not in manager.heard()


def test_a_reload_takes_the_key_and_names_what_waits_for_a_restart():
    environ = {"RESEND_API_KEY": "re_old", "DATABASE_URL": "postgresql:///a"}
    live = Live(load(None, environ), lambda: load(None, environ))
    environ |= {"RESEND_API_KEY": "re_new", "DATABASE_URL": "postgresql:///b", "OUTBOXD_SENDER__THREADS": "3"}
    change = live.reload()
    assert (change.taken, change.waiting) == (["resend.api_key"], ["database.url", "sender.threads"])
    assert live.api_key() == "re_new"
    assert live.config.database.url == Secret("postgresql:///a")
    assert live.reload().waiting == ["database.url", "sender.threads"]


def test_a_reload_says_that_a_rotated_database_url_waits_for_a_restart(manager, caplog, tmp_path):
    environ = {}
    for variable, password in (("CREDENTIALS_DIRECTORY", "pa55word"), ("RUNTIME_DIRECTORY", "pa55word_2")):
        environ[variable] = str(tmp_path / variable)
        (tmp_path / variable).mkdir()
        (tmp_path / variable / "database_url").write_text(f"postgresql://ada:{password}@db.example/shop\n")
    first = load(None, {"CREDENTIALS_DIRECTORY": environ["CREDENTIALS_DIRECTORY"]})
    attendant = attendant_for(Live(first, lambda: load(None, environ)), manager)
    with caplog.at_level(logging.INFO):
        reload(attendant)
    attendant.notifier.close()
    assert [vars(record).get("settings") for record in caplog.records] == [None, "database.url"]
    assert "pa55word" not in str([vars(record) for record in caplog.records])
    assert attendant.live.config.database.url == first.database.url


def test_a_wrong_file_keeps_the_old_configuration_and_logs_every_mistake(manager, caplog):
    def wrong() -> Config:
        raise ConfigError(["sender.threads: must be a whole number", "resend.timout: unknown key"])

    told: list[int] = []
    old = replace(Config())
    attendant = attendant_for(Live(old, wrong), manager, on_reload=[lambda: told.append(1)])
    with caplog.at_level(logging.INFO):
        reload(attendant)
    attendant.notifier.close()
    assert attendant.live.config is old
    assert [record.mistake.partition(":")[0] for record in caplog.records] == [
        "sender.threads",
        "resend.timout",
    ]
    assert told == []
    assert manager.heard()[-1] == "READY=1"


def test_a_hook_that_fails_does_not_end_the_daemon(manager, caplog):
    told: list[int] = []
    hooks = [lambda: 1 / 0, lambda: told.append(1)]
    attendant = attendant_for(Live(Config(), Config), manager, on_reload=hooks)
    reload(attendant)
    attendant.notifier.close()
    assert told == [1]
    assert "a part did not take the reload" in caplog.text


def test_a_newer_key_in_the_runtime_folder_wins_over_the_managers_credential(tmp_path: Path):
    folders = {}
    for variable, key in (("CREDENTIALS_DIRECTORY", "re_first"), ("RUNTIME_DIRECTORY", "re_newer")):
        folder = tmp_path / variable
        folder.mkdir()
        (folder / "resend_api_key").write_text(key + "\n")
        folders[variable] = str(folder)
    first = load(None, {"CREDENTIALS_DIRECTORY": folders["CREDENTIALS_DIRECTORY"]})
    assert first.resend.api_key.reveal() == "re_first"
    assert load(None, folders).resend.api_key.reveal() == "re_newer"


def test_the_journal_gets_fields_and_an_exception_as_one_entry(tmp_path: Path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "journal"))
    listener.settimeout(5)
    journal = Journal(str(tmp_path / "journal"))
    log = logging.getLogger("test.journal")
    handler = JournalHandler(journal)
    log.addHandler(handler)
    try:
        log.warning("email ended as %s", "dead", extra={"uid": "7", "to": "ada@example.org"})
        try:
            int("re_0123456789")
        except ValueError:
            log.exception("broke")
        first, second = listener.recv(65536), listener.recv(65536)
    finally:
        log.removeHandler(handler)
        journal.close()
        listener.close()
    lines = first.decode().splitlines()
    assert "PRIORITY=4" in lines
    assert "OUTBOXD_UID=7" in lines
    assert "MESSAGE=email ended as dead uid=7 to=***" in lines
    assert b"PRIORITY=3\n" in second
    assert b"re_0123456789" not in second
    name, _, rest = second.partition(b"OUTBOXD_EXCEPTION\n")
    length = int.from_bytes(rest[:8], "little")
    assert (
        rest[8 : 8 + length].decode().splitlines()[-1]
        == "ValueError: invalid literal for int() with base 10: '***'"
    )
    assert name


def test_an_absent_journal_stops_nothing(tmp_path: Path):
    journal = Journal(str(tmp_path / "nobody"))
    journal.send({"MESSAGE": "x"})
    journal.close()


def test_standard_error_is_the_journal_only_where_device_and_inode_say_so(tmp_path: Path):
    with (tmp_path / "stderr").open("w") as file:
        found = os.fstat(file.fileno())
        assert is_stream({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}, file.fileno())
        assert not is_stream({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"}, file.fileno())
        assert not is_stream({}, file.fileno())


def test_a_statement_without_an_answer_is_cut_and_the_session_connects_again(database):
    """The backend itself is stopped: it can neither answer nor enforce a time-out, while its kernel acknowledges."""
    session = Session(database, "test", stop=threading.Event())
    pid = session.run(lambda mine: mine.execute("select pg_backend_pid()").fetchone()[0])
    os.kill(pid, signal.SIGSTOP)
    ended: list[type[Exception]] = []

    def ask() -> None:
        try:
            session.run(lambda mine: mine.execute("set statement_timeout = '1s'; select 1"))
        except ConnectionLostError as error:
            ended.append(type(error))

    thread = threading.Thread(target=ask)
    try:
        thread.start()
        until(lambda: session.break_if_stalled(0.5) or ended, what="the statement to be cut")
        thread.join()
        assert ended == [ConnectionLostError]
        assert session.run(lambda mine: mine.execute("select pg_backend_pid()").fetchone()[0]) != pid
    finally:
        os.kill(pid, signal.SIGCONT)
        session.close()


def test_an_idle_connection_is_not_taken_for_a_stalled_one(database):
    session = Session(database, "test", stop=threading.Event())
    session.run(lambda mine: mine.execute("select 1"))
    session.break_if_stalled(0.0)
    session.run(lambda mine: mine.execute("select 1"))
    session.close()


def test_who_may_wait_longer_is_cut_as_ever_once_that_is_over_and_where_it_failed(database):
    session = Session(database, "test", stop=threading.Event())
    conn = session.connection()
    with patient(conn, 60):
        conn.execute("select 1")
    assert not session.is_patient()
    with pytest.raises(psycopg.errors.DivisionByZero), patient(conn, 60), conn.transaction():
        conn.execute("select 1 / 0")
    assert not session.is_patient()
    ended = threading.Event()

    def ask() -> None:
        with contextlib.suppress(ConnectionLostError):
            session.run(lambda mine: mine.execute("select pg_sleep(30)"))
        ended.set()

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: session.break_if_stalled(0.1) or ended.is_set(), what="the statement to be cut")
    thread.join()
    session.close()


def test_the_locks_of_a_client_cut_off_in_a_transaction_are_free_before_others_give_up(database):
    waiter, cut_off = connect(database, "waiter", path=True), connect(database, "cut off", path=True)
    cut_off.execute("begin")
    cut_off.execute("select from outboxd.queue for update")
    assert len(waiter.execute("select from outboxd.queue for update").fetchall()) > 0
    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        cut_off.execute("commit")
    waiter.close()


@pytest.mark.slow
def test_the_locks_of_a_client_cut_off_while_it_sends_are_free_within_seconds():
    """The server waits for the rest of a pipeline, which is neither idle in a transaction nor a statement."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with LocalPostgres(port=port, bin_dir=wheel_binaries()) as server:
        cut_off = connect(f"postgresql://postgres@127.0.0.1:{port}/postgres", "cut off", path=True)
        assert cut_off.execute("show tcp_keepalives_idle").fetchone() == ("10",), "what older releases go by"
        cut_off.execute("create table held as select 1 as one")
        wire = cut_off.pgconn
        wire.enter_pipeline_mode()
        for statement in (b"begin", b"select from held for update"):
            wire.send_query_params(statement, None)
        wire.send_flush_request()
        wire.flush()
        with psycopg.connect(server.url, autocommit=True) as conn:
            free = "select exists (select from held for update skip locked)"
            until(lambda: conn.execute(free).fetchone() == (False,), what="the row to be locked")
            until(lambda: conn.execute(free).fetchone() == (True,), within=12, what="it to be free")
        wire.finish()


def test_limits_are_read_again_where_the_connection_of_the_first_read_breaks(database, conn):
    stop, policies, reads = threading.Event(), Policies(), []
    keeper = Keeper(Session(database, "keeper", stop=stop), Session(database, "scout", stop=stop), uuid4(), 1, stop,
        Providers(lambda _: None))  # fmt: skip

    def read(mine: psycopg.Connection) -> None:
        reads.append(mine.info.backend_pid)
        if len(reads) == 1:
            conn.execute("select pg_terminate_backend(%s, 5000)", (reads[0],))
        policies.refresh(mine)

    keeper.insist(read)
    keeper.session.close()
    assert len(reads) == 2
    assert policies.limits.of("recipient", "*", "password_reset") is not None


def test_slow_start_lets_few_in_and_more_with_each_answer():
    slow, stop = SlowStart(8), threading.Event()
    entered = threading.Semaphore(0)

    def enter() -> None:
        if slow.enter(stop):
            entered.release()

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert [entered.acquire(timeout=5) for _ in range(2)] == [True, True]
    assert not entered.acquire(timeout=0.1)
    slow.leave(Sent("id"))
    assert [entered.acquire(timeout=5) for _ in range(2)] == [True, True]
    assert not entered.acquire(timeout=0.1)
    slow.leave(Ambiguous(Failure("ambiguous", "x")))
    assert entered.acquire(timeout=5)
    assert not entered.acquire(timeout=0.1)
    stop.set()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
