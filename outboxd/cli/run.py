"""`outboxd run`: the daemon."""

import sys

import click

from outboxd.cli.settings import settings


@click.command()
@click.option("--threads", type=int, help="Sender threads, over `sender.threads`.")
@click.option("--time-scale", type=click.FloatRange(min=0, min_open=True), default=1.0, hidden=True)
def run(threads: int | None, time_scale: float) -> None:
    """Send what applications inserted, until SIGTERM or Ctrl-C. A second signal hurries."""
    from outboxd import daemon, telemetry  # noqa: PLC0415 - imports the whole program

    overrides = {} if threads is None else {"sender.threads": threads}
    config = settings(require={"database.url", "resend.api_key"}, overrides=overrides)
    telemetry.start(config.log)
    sys.exit(daemon.run(config, time_scale=time_scale))
