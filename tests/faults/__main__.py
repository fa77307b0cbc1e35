"""`python -m tests.faults --seed N --profile quick|short|full|zombies [--tree PATH]`: exit 0 green, 1 red."""

import argparse
import random
import sys
from dataclasses import replace
from pathlib import Path

from . import HELPERS  # noqa: F401 - puts the tests' helpers on the path
from .plan import PLANS, scaled
from .run import ROOT, run_plan, tell
from .unfit import UnfitError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--profile", choices=PLANS, default="short")
    parser.add_argument(
        "--tree", type=Path, default=ROOT, help="the source tree whose daemon is put to the test"
    )
    parser.add_argument(
        "--previous", type=Path, help="for `upgrade`: the tree to upgrade from, instead of what history says"
    )
    parser.add_argument(
        "--level", type=int, choices=(1, 2, 3), help="how hard faults of the network and the provider strike"
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the emails, kills, zombies and crashes")
    options = parser.parse_args()
    print(f"plan {options.profile}, seed {options.seed}, tree {options.tree}", flush=True)
    plan = PLANS[options.profile]
    plan = replace(scaled(plan, options.share), level=options.level or plan.level, share=options.share)
    try:
        report = run_plan(
            plan, options.seed, tree=options.tree, before=options.previous and options.previous.resolve(),
            say=lambda text: print(text, flush=True),
        )  # fmt: skip
    except UnfitError as error:
        print(f"RED: plan {options.profile} cannot be run: {error}", flush=True)
        return 1
    tell(report, lambda text: print(text, flush=True))
    return 0 if report.green else 1


if __name__ == "__main__":
    sys.exit(main())
