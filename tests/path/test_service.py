"""The daemon as a service: reloads, stalls, slow start, the probes that tell of them."""

import json
import signal
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from conftest_path import NEW, OLD, count, drained, only_once
from factories import insert, insert_many, state_of
from psycopg.conninfo import conninfo_to_dict
from stalling import StallingProxy
from waiting import until

from outboxd.sink.options import Fault


def test_a_rotated_key_is_taken_at_sighup_and_no_email_is_lost(conn, sink, daemon, key_file):
    running = sink(key_modes={NEW: "revoked"})
    one = daemon(running.url, CREDENTIALS_DIRECTORY=str(key_file.parent), RESEND_API_KEY="")
    insert_many(conn, 20)
    until(lambda: count(conn, "delivery") == 20, what="the first to go under the old key")
    running.provider.control({"key_modes": {OLD: "revoked"}})
    waiting = [insert(conn) for _ in range(20)]
    until(lambda: running.provider.verdicts["refused"] >= 1, what="the old key to be refused")
    key_file.write_text(NEW + "\n")
    one.process.send_signal(signal.SIGHUP)
    until(lambda: "reloaded" in one.log.read_text(), what="the reload")
    until(lambda: drained(conn) and count(conn, "delivery") == 40, what="all to go under the new key")
    assert only_once(running)["accepted"] == 40
    assert {state_of(conn, id_) for id_ in waiting} == {"sent"}
    assert conn.execute("select max(attempts) from outboxd.delivery").fetchone() == (1,)
    assert one.process.poll() is None
    assert not [key for key in (OLD, NEW) if key in one.log.read_text()]


def test_a_wrong_file_at_sighup_keeps_it_running_and_names_each_mistake(conn, sink, daemon, tmp_path):
    running, file = sink(), tmp_path / "outboxd.toml"
    file.write_text("[sender]\nthreads = 3\n")
    one = daemon(running.url, OUTBOXD_CONFIG=str(file))
    file.write_text("[sender]\nthreads = 'many'\n[resend]\ntimout = '3s'\n")
    one.process.send_signal(signal.SIGHUP)
    until(lambda: one.log.read_text().count("keeping the old one") == 2, what="both mistakes")
    assert "sender.threads" in one.log.read_text()
    assert "resend.timout" in one.log.read_text()
    file.write_text("[sender]\nthreads = 4\n")
    one.process.send_signal(signal.SIGHUP)
    until(lambda: "with a restart only" in one.log.read_text(), what="the warning")
    id_ = insert(conn)
    until(lambda: state_of(conn, id_) == "sent", what="an email to go")


def probe(port: int, path: str) -> tuple[int, dict]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)
    except URLError:
        return 0, {}  # nobody listens there yet


@pytest.mark.slow
@pytest.mark.parametrize(
    "stalled", [3.0, pytest.param(None, marks=pytest.mark.long)], ids=["3 s", "as it ships"]
)
def test_a_connection_that_falls_silent_is_cut_and_the_sending_goes_on(
    database, conn, sink, daemon, reach, stalled
):
    """Nothing passes any more, while TCP acknowledges: neither statement_timeout nor keepalives see it."""
    behind = conninfo_to_dict(reach(database))
    proxy = StallingProxy(str(behind["host"]), int(behind["port"]))
    try:
        running = sink()
        one = daemon(running.url, DATABASE_URL=proxy.url(database), stalled=stalled)
        insert_many(conn, 10)
        until(lambda: count(conn, "delivery") == 10, what="the first to go")
        assert proxy.stall() >= 3
        insert_many(conn, 10)
        until(lambda: drained(conn) and count(conn, "delivery") == 20, within=90, what="the others to go")
        assert "a statement got no answer" in one.log.read_text()
        assert only_once(running)["accepted"] == 20
    finally:
        proxy.close()


def at_first(running, since: int) -> int:
    """The requests within 100 ms of the first: as answers take longer, how many were at it together."""
    times = [entry.at for entry in running.provider.entries if entry.n > since]
    return sum(at < times[0] + 0.1 for at in times)


@pytest.mark.slow
def test_a_provider_that_has_just_healed_is_not_met_by_every_thread(conn, sink, daemon):
    conn.execute(
        "update outboxd.queue set backoff = 'fixed', backoff_base = '100 ms', max_attempts = 1, batch = false"
    )
    conn.execute("insert into outboxd.breaker (account, open_for) values ('default', '1 s')")
    running = sink(think_time=0.15)
    daemon(running.url, OUTBOXD_SENDER__THREADS="32")
    insert_many(conn, 200)
    until(lambda: drained(conn) and count(conn, "delivery") == 200, what="the threads to be at full width")
    assert at_first(running, 0) <= 3
    running.provider.control({"faults": (Fault("503"),)})
    insert_many(conn, 100)
    until(lambda: count(conn, "breaker", "probes > 1"), what="the outage to be noticed")
    running.provider.control({"faults": ()})
    before = running.provider.entries[-1].n
    until(lambda: drained(conn) and count(conn, "delivery") == 300, within=60, what="the rest to go")
    assert at_first(running, before) <= 4
    assert only_once(running)["accepted"] == 300


def test_readyz_has_a_place_for_pauses_and_livez_is_content(sink, daemon):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = sink()
    daemon(running.url, OUTBOXD_HEALTH__LISTEN=f"127.0.0.1:{port}")
    until(lambda: probe(port, "/livez")[0], what="somebody who listens")
    status, body = probe(port, "/readyz")
    assert (status, body["pauses"]) == (200, [])
    assert probe(port, "/livez")[0] == 200
