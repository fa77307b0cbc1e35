"""The `outboxd` command: finds the sub-command, and turns errors into one clear message and an exit code.

Exit codes: 0 done, 1 a clear failure, 2 wrong usage, 78 a wrong configuration of `run` (so that a service manager does
not restart it in vain), 130 interrupted.
"""

import difflib
import importlib
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

import click

from outboxd.errors import ConfigError, OutboxdError

COMMANDS: Final = {
    "demo": "Watch a thousand emails go from committed transactions to a local inbox.",
    "dev": "A database, a local Resend and the daemon for the application that you are writing.",
    "migrate": "Create or upgrade outboxd's schema.",
    "run": "Run the daemon.",
    "check": "Check configuration, database, key and listener.",
    "sink": "Run the local Resend: accepts emails, shows them in the browser, sends none.",
    "enqueue": "Insert one email.",
    "emails": "List, show and cancel emails.",
    "explain": "Say why an email has not left, and when it can.",
    "dead": "List and show dead letters.",
    "adopt": "Let a restored or copied database send.",
    "accounts": "Look at provider accounts, and resume them.",
    "queues": "List queues, change their policy, pause them.",
    "types": "List the policies of types, change them, pause types.",
    "campaigns": "Pause and resume campaigns.",
    "providers": "Pause and resume mailbox providers.",
    "limits": "List limits and change them.",
    "policy": "Export all policy as a file, and apply one.",
    "suppressions": "Keep the list of addresses that get no email.",
    "rebuild": "Derive the hot tables from the others.",
}
WRONG_CONFIG: Final = 78  # EX_CONFIG of sysexits.h
INTERRUPTED: Final = 130


class Lazy(click.Group):
    """Imports a sub-command's module only when it is used."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """All of them, in the order in which they are needed."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Import it."""
        if name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"outboxd.cli.{name}"), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Guess what was meant."""
        if args and args[0] not in COMMANDS:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run it. A wrong configuration is told here, where the command is known by what was invoked."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            click.echo("outboxd: the configuration is wrong:", err=True)
            for mistake in error.mistakes:
                click.echo(f"  {mistake}", err=True)
            ctx.exit(WRONG_CONFIG if ctx.invoked_subcommand == "run" else 1)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line each, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config", type=click.Path(path_type=Path), help="Default: $OUTBOXD_CONFIG, /etc/outboxd/outboxd.toml."
)
@click.version_option(version("outboxd"), prog_name="outboxd")
def cli(config: Path | None) -> None:
    """The email outbox for Postgres: insert an email in your transaction, it is sent once."""
    del config  # read by outboxd.cli.settings


def main() -> None:
    """The entry point."""
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except OutboxdError as error:
        click.echo(f"outboxd: {error}", err=True)
        code = 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
