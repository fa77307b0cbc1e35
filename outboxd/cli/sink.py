"""`outboxd sink`: the local Resend."""

import click


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port", default=8025, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option(
    "--rate-limit",
    default=10,
    show_default=True,
    type=click.IntRange(0),
    help="Requests per second; 0: none.",
)
@click.option("--daily-quota", type=click.IntRange(1), help="Recipients per UTC day.")
@click.option("--monthly-quota", type=click.IntRange(1), help="Recipients per month.")
@click.option("--think-time", default=0.0, type=click.FloatRange(0, 60), help="Seconds before each answer.")
@click.option(
    "--verified-domain", "domains", multiple=True, help="Accept only these from-domains. Repeatable."
)
@click.option(
    "--key-mode", default="full", show_default=True, help="What API keys may do; see --list-faults."
)
@click.option(
    "--fault", "faults", multiple=True, help="KIND[:PROBABILITY[:ARGUMENT]], repeatable; see --list-faults."
)
@click.option("--list-faults", is_flag=True, help="Name every fault and key mode, and end.")
@click.option("--seed", default=1, show_default=True, help="Of the faults' dice.")
@click.option(
    "--ledger", type=click.Path(dir_okay=False), help="Append every request to this file as JSON lines."
)
def sink(
    host: str,
    port: int,
    rate_limit: int,
    daily_quota: int | None,
    monthly_quota: int | None,
    think_time: float,
    domains: tuple[str, ...],
    key_mode: str,
    faults: tuple[str, ...],
    seed: int,
    ledger: str | None,
    *,
    list_faults: bool,
) -> None:
    """Run a local Resend: accepts emails, shows them in the browser, sends none.

    A recipient `fault+KIND.N@…` meets that fault at its first N asks, without `.N` at every one.
    """
    from outboxd.sink.options import FAULTS, KEY_MODES, SinkOptions, parse_fault  # noqa: PLC0415 - starlette
    from outboxd.sink.server import serve  # noqa: PLC0415

    if list_faults:
        click.echo("\n".join(f"{kind:14} {what}" for kind, what in FAULTS.items()))
        click.echo("\nkey modes: the API key")
        click.echo("\n".join(f"{mode:14} {what}" for mode, what in KEY_MODES.items()))
        return
    if key_mode not in KEY_MODES:
        raise click.BadParameter(f"known are {', '.join(KEY_MODES)}", param_hint="--key-mode")
    try:
        parsed = tuple(parse_fault(fault) for fault in faults)
    except (ValueError, TypeError) as error:
        raise click.BadParameter(str(error), param_hint="--fault") from None
    options = SinkOptions(
        host=host,
        port=port,
        rate_limit=rate_limit or None,
        daily_quota=daily_quota,
        monthly_quota=monthly_quota,
        think_time=think_time,
        verified_domains=frozenset(domains) or None,
        key_mode=key_mode,
        faults=parsed,
        seed=seed,
        ledger_path=ledger,
    )
    serve(options, lambda url: click.echo(f"API and inbox: {url} (set RESEND_API_URL={url})"))
