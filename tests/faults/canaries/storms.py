"""Small storms, each with the faults in which certain bugs show. Seconds long, so that a canary dies soon."""

from ..plan import Plan  # noqa: TID252 - under pytest the package is called otherwise

STORMS = {
    plan.name: plan
    for plan in (
        Plan(
            "answers", emails=500, daemons=3, rounds=1, kills=4, zombies=0, immediate=0, fast=0,
            esp=("accept-reset", "500", *("accept-reset",) * 4), proxies=(), level=3, lasts=1.5, rate=150.0,
        ),
        Plan(
            "refusals", emails=300, daemons=3, rounds=1, kills=1, zombies=0, immediate=0, fast=0, esp=(), proxies=(),
            specials=("refused",), rate=100.0,
        ),
        Plan(
            "zombies", emails=250, daemons=4, rounds=1, kills=0, zombies=5, immediate=0, fast=0, esp=(), proxies=(),
            rate=50.0, think=0.4,
        ),
        Plan(
            "crashes", emails=200, daemons=3, rounds=1, kills=0, zombies=0, immediate=2, fast=0, esp=(), proxies=(),
            specials=("vanished",) * 2, rate=50.0, relaxed=True,
        ),
        Plan(
            "aged", emails=500, daemons=3, rounds=1, kills=2, zombies=0, immediate=0, fast=0, esp=("accept-reset",),
            proxies=(), specials=("aged",), lasts=1.0, rate=150.0,
        ),
        Plan(
            "tail", emails=1000, daemons=3, rounds=1, kills=0, zombies=0, immediate=0, fast=0, esp=(), proxies=(),
            specials=("promotion asynchronous",),
        ),
        Plan(
            "calm", emails=500, daemons=2, rounds=1, kills=2, zombies=0, immediate=0, fast=0, esp=("slow",), proxies=(),
            lasts=1.0, rate=800.0, think=0.1,
        ),
        Plan(
            "silences", emails=900, daemons=3, rounds=1, kills=1, zombies=0, immediate=0, fast=0,
            esp=("accept-reset",) * 5, proxies=(), level=3, lasts=2.5, rate=150.0,
        ),
        Plan(
            "suspects", emails=300, daemons=3, rounds=1, kills=6, zombies=0, immediate=0, fast=0, esp=(), proxies=(),
            rate=100.0, think=0.1, crash_limit=3,
        ),
        Plan(
            "cancels", emails=200, daemons=2, rounds=1, kills=1, zombies=0, immediate=0, fast=0, esp=(), proxies=(),
            specials=("regretted",), rate=60.0,
        ),
    )
}  # fmt: skip
