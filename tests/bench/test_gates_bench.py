"""What the gates cost: the same emails with every limit on and with none, daemon and Postgres together, in one run.

Every email of a run goes to somebody else, as most of an hour's mail does; they are of 500 providers.
"""

import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from conftest_path import Daemon, drained
from factories import payload
from waiting import until

from outboxd.db.migrate import migrate
from outboxd.localpg import LocalPostgres, wheel_binaries

pytestmark = pytest.mark.bench
TICK = os.sysconf("SC_CLK_TCK")
BARE = Path(__file__).parent / "bare_server.py"
EMAILS = """
insert into outboxd.email (type, payload)
select 'welcome', jsonb_set(%s::jsonb, '{to}', to_jsonb(%s::text || n || '@d' || n %% 500 || '.example'))
from generate_series(1, %s) as n
"""
ON = """update outboxd.limit_rule set most = 1000000 where most is not null or kind in
  ('recipient', 'provider_minute', 'provider_day')"""
OFF = "update outboxd.limit_rule set most = null"


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process and of the children that it has waited for, and of all that live."""
    total = 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    total += sum(map(int, fields[11:15])) / TICK
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            total += cpu_of(int(child))
    return total


def postmaster(conn) -> int:
    directory = conn.execute("show data_directory").fetchone()[0]
    return int((Path(directory) / "postmaster.pid").read_text().split()[0])


def cost(server, url: str, api: str, log: Path, *, emails: int) -> float:
    """Microseconds of CPU per email, of a daemon that has started already and of Postgres."""
    with psycopg.connect(server.url_for("gates"), autocommit=True) as conn:
        one = Daemon(url, api, log, OUTBOXD_SENDER__THREADS="8", OUTBOXD_RESEND__DEADLINE="20s",
            OUTBOXD_SENDER__LEASE="60s")  # fmt: skip
        one.start()
        try:
            conn.execute(EMAILS, (json.dumps(payload()), f"warm{log.name}-", 500))
            until(lambda: drained(conn), within=60, what="the warm-up")
            conn.execute("update outboxd.queue set priority = priority")
            conn.execute("set outboxd.doorbell = 'off'")
            conn.execute("select outboxd.pause('account', 'default', 'a benchmark')")
            conn.execute(EMAILS, (json.dumps(payload()), f"{log.name}-", emails))
            conn.execute("checkpoint")
            server_pid = postmaster(conn)
            before = cpu_of(server_pid) + cpu_of(one.process.pid)
            conn.execute("select outboxd.resume('account', 'default')")
            until(lambda: drained(conn), within=300, what="the queue to drain")
            return (cpu_of(server_pid) + cpu_of(one.process.pid) - before) / emails * 1e6
        finally:
            one.kill()


def test_cost_of_the_gates(tmp_path, keep, short):
    emails, rounds = (2_000, 1) if short else (20_000, 5)
    found: dict[str, list[float]] = {"on": [], "off": []}
    settings = {"shared_buffers": "256MB", "max_wal_size": "4GB"}
    with (
        subprocess.Popen([sys.executable, BARE, "0.0"], stdout=subprocess.PIPE, text=True) as bare,
        LocalPostgres(settings, bin_dir=wheel_binaries()) as server,
        ExitStack() as at_the_end,
    ):
        at_the_end.callback(bare.terminate)
        api = f"http://127.0.0.1:{bare.stdout.readline().strip()}"
        with psycopg.connect(server.url, autocommit=True) as admin:
            admin.execute("create database gates")
        url = server.url_for("gates")
        migrate(url)
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("update outboxd.queue set batch = false")
            for number in range(rounds):
                for name, statement in (("on", ON), ("off", OFF)):
                    conn.execute(statement)
                    found[name].append(cost(server, url, api, tmp_path / f"{name}{number}", emails=emails))
    on, off = (statistics.median(found[name]) for name in ("on", "off"))
    keep(with_gates_us=round(on), without_us=round(off), added_us=round(on - off))
    assert short or on - off <= 60
