"""The short storm, under pytest: `SEED=7 pytest -m faults tests/faults` repeats one."""

import os
import random

import pytest

from .run import run, tell

pytestmark = pytest.mark.faults


def test_the_short_storm_loses_nothing_and_doubles_nothing():
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    report = run("short", seed)
    told: list[str] = []
    tell(report, told.append)
    print("\n".join(told))
    assert report.green, "\n".join(told)
