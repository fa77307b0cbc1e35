"""`python -m tests.faults.canaries [NAME …]`: every canary must be caught, every control be green, else exit 1.

Several at a time, each in a process of its own. A canary whose patch fits no longer fails the run before it begins.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from .canary import ROOT, Rotten, edited
from .rules import ALL
from .trial import Verdict, try_canary, try_control

LONGEST = 300.0  # seconds for one of them, whatever the machine
SOON = 60.0  # seconds within which a canary must be caught
BY_NAME = {canary.name: canary for canary in ALL}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.canaries", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="of canaries; all of them, and the controls, where none is named"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument(
        "--one", action="store_true", help="run the named one here, and print its verdict as JSON"
    )
    options = parser.parse_args()
    if unknown := [
        name for name in options.names if name.removeprefix("control:") not in {*BY_NAME, *controls()}
    ]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    if options.one:
        print(json.dumps(asdict(_try(options.names[0], options.seed))))
        return 0
    if rotten := list(rot()):
        print("\n".join(rotten))
        return 1
    names = options.names or [*BY_NAME, *(f"control:{what}" for what in controls())]
    return report(names, options.seed, options.at_once)


def controls() -> list[str]:
    """The storms and tests of which the canaries make use."""
    return list(dict.fromkeys(canary.storm or canary.test for canary in ALL))


def rot() -> list[str]:
    """The canaries that cannot be planted any more, and why."""
    found = []
    for canary in ALL:
        try:
            edited(canary.edits)
        except Rotten as error:
            found.append(f"the canary {canary.name} is rotten: {error}")
    return found


def report(names: list[str], seed: int, at_once: int) -> int:
    """Run them and print the table; 1 where a canary survived or was caught late, or a control was red."""
    print(f"seed {seed}, {at_once} at a time", flush=True)
    began, bad = time.monotonic(), []
    with ThreadPoolExecutor(at_once) as pool:
        for name, verdict in zip(names, pool.map(lambda name: _alone(name, seed), names), strict=True):
            control = name.startswith("control:")
            word = ("green" if control else "caught") if verdict.good else ("RED" if control else "SURVIVED")
            if word == "caught" and verdict.seconds > SOON:
                word = "LATE"
            print(f"{name:<26} {word:<9} {verdict.seconds:5.1f} s  {verdict.by}", flush=True)
            bad += [name] * (word not in {"green", "caught"})
    print(f"{len(names) - len(bad)} of {len(names)} as they should be, in {time.monotonic() - began:.0f} s")
    for name in bad:
        print(f"again: python -m tests.faults.canaries --seed {seed} {name}")
    return 1 if bad else 0


def _try(name: str, seed: int) -> Verdict:
    if name.startswith("control:"):
        return try_control(name.removeprefix("control:"), seed)
    return try_canary(BY_NAME[name], seed)


def _alone(name: str, seed: int) -> Verdict:
    """In a process of its own."""
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.faults.canaries", "--one", "--seed", str(seed), name]
    env = dict(os.environ) | {"PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, timeout=LONGEST, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        return Verdict(name, good=False, by="no verdict in time", seconds=time.monotonic() - began)
    if os.environ.get("FAULTS_VERBOSE"):
        print(done.stderr, end="", file=sys.stderr)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        return Verdict(name, good=False, by=f"no verdict: {last}", seconds=time.monotonic() - began)
    return Verdict(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    sys.exit(main())
