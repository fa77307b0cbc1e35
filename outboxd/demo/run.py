"""Run the demo: start the parts, let the shop trade, show what happens, and say whether the promise held."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import psycopg

from outboxd.db.migrate import migrate
from outboxd.demo.database import own_database
from outboxd.demo.figures import Figures, latencies, look
from outboxd.demo.process import daemon_process
from outboxd.demo.shop import Ledger, open_shop, trading
from outboxd.errors import OutboxdError
from outboxd.localpg import LocalPostgres
from outboxd.sink.options import SinkOptions
from outboxd.sink.provider import Provider
from outboxd.sink.server import running_sink

RATE = 100  # requests per second that the demo's Resend allows
PATIENCE = 180.0  # seconds until an email that has not ended is a failure


def demo(
    emails: int,
    *,
    database: str | None,
    port: int,
    stay: bool,
    say: Callable[[str], None],
    show: Callable[[Figures], None],
) -> bool:
    """Everything, once; True where the promise held. `stay` keeps the inbox open until Ctrl-C.

    `database` is the URL of a server to use instead of a local one.
    """
    with own_database(database, say) if database is not None else _local(say) as url:
        migrate(url)
        lift_limits(url)
        say("limits per recipient and mailbox provider are lifted: the shop's customers are few")
        open_shop(url)
        with running_sink(SinkOptions(port=port, rate_limit=RATE)) as sink:
            say(f"inbox: {sink.url}")
            with daemon_process(
                url, sink.url, api_key="re_demo_only_local", level="error", quiet=True
            ) as process:
                right = _watch(url, sink.provider, process, emails, say, show)
                if stay:
                    say(f"the inbox stays open at {sink.url} until Ctrl-C")
                    _until_interrupted()
    return right


@contextlib.contextmanager
def _local(say: Callable[[str], None]) -> Iterator[str]:
    say("starting a local Postgres …")
    with LocalPostgres() as server:
        yield server.url


def lift_limits(url: str) -> None:
    """The defaults are for real mailboxes: three emails an hour each, a hundred a minute for each provider."""
    with psycopg.connect(url) as conn:
        conn.execute("select outboxd.set_limit(name, null) from outboxd.limit_rule where kind <> 'account'")


def _watch(
    url: str,
    provider: Provider,
    process: "subprocess.Popen[bytes]",
    emails: int,
    say: Callable[[str], None],
    show: Callable[[Figures], None],
) -> bool:
    ledger, started, pause = Ledger(), time.monotonic(), threading.Event()
    with psycopg.connect(url, autocommit=True) as conn, trading(url, emails, ledger) as clerks:
        while True:
            figures = look(conn, ledger, provider, seconds=time.monotonic() - started)
            show(figures)
            if process.poll() is not None:
                raise OutboxdError(f"the daemon ended with {process.returncode}")
            if not any(clerk.is_alive() for clerk in clerks) and figures.done(emails):
                break
            if figures.seconds > PATIENCE:
                break
            pause.wait(0.25)
        say(_summary(figures, *latencies(conn, provider)))
    right = figures.right(emails)
    say("the promise held" if right else "THE PROMISE DID NOT HOLD")
    return right


def _summary(figures: Figures, median: float, slow: float) -> str:
    ends, shop = figures.ends, figures.shop
    lines = [
        ("committed", ends["committed"], "orders whose transaction inserted an email"),
        (
            "rolled back",
            shop.rolled_back,
            f"transactions taken back; {figures.strangers} of their emails were sent",
        ),
        ("accepted", figures.accepted_by_provider, "by the local Resend"),
        (
            "retried",
            ends["retried"],
            f"met a fault or its limit ({figures.throttled} requests were too many for {RATE}/s)",
        ),
        ("dead", ends["dead"], f"refused for good; {shop.poisoned} were poisoned"),
        ("unknown", ends["unknown"], "may have been sent"),
        ("duplicates", figures.duplicates, "accepted twice"),
    ]
    text = [f"  {name:12}{value:7}   {what}" for name, value, what in lines]
    rate = figures.accepted_by_provider / max(figures.seconds, 0.001)
    text.append(
        f"  {rate:.0f} emails/s at {RATE} requests/s allowed; commit to acceptance p50 {median:.2f} s, p99 {slow:.2f} s"
    )
    return "\n".join(["", *text, ""])


def _until_interrupted() -> None:
    forever = threading.Event()
    try:
        while True:
            forever.wait(3600)
    except KeyboardInterrupt:
        return
