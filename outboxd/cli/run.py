"""`outboxd run`: the daemon."""

import faulthandler
import sys

import click

from outboxd.cli.settings import settings
from outboxd.config import Config


@click.command()
@click.option("--threads", type=int, help="Sender threads, over `sender.threads`.")
@click.option("--time-scale", type=click.FloatRange(min=0, min_open=True), default=1.0, hidden=True)
def run(threads: int | None, time_scale: float) -> None:
    """Send what applications inserted, until SIGTERM or Ctrl-C. A second signal hurries."""
    from outboxd import daemon, telemetry  # noqa: PLC0415 - imports the whole program
    from outboxd.reload import Live  # noqa: PLC0415

    overrides = {} if threads is None else {"sender.threads": threads}

    def read() -> Config:
        return settings(require={"database.url", "resend.api_key"}, overrides=overrides)

    faulthandler.enable()  # a daemon that is killed by a watchdog (SIGABRT) says where its threads stood
    live = Live(read(), read)
    telemetry.start(live.config.log)
    sys.exit(daemon.run(live, time_scale=time_scale))
