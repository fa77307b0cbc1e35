"""Canaries cannot rot: each still fits the source, says what catches it, and two of them are caught here and now."""

import os
import random

import pytest

from ..checker import RULES  # noqa: TID252 - under pytest the package is called otherwise
from .__main__ import BY_NAME, report, rot
from .canary import Edit, Rotten, plant
from .rules import ALL
from .storms import STORMS

QUICK = ["key-per-attempt", "fence-without-membership"]


def test_every_canary_can_be_planted():
    assert rot() == []


@pytest.mark.parametrize("old", ["nothing of the kind", "import"], ids=["gone", "ambiguous"])
def test_a_canary_that_fits_no_more_is_refused(tmp_path, old):
    with pytest.raises(Rotten, match=r"outboxd/daemon\.py has \d+ times, not once"):
        plant([Edit("outboxd/daemon.py", old, "x")], tmp_path)


def test_a_planted_tree_differs_in_nothing_but_its_bug(tmp_path):
    edit = Edit("sql/functions/cancel.sql", "return false", "return true")
    good, bad = plant((), tmp_path / "good"), plant([edit], tmp_path / "bad")
    files = [path.relative_to(good) for path in good.rglob("*") if path.is_file()]
    changed = [str(path) for path in files if (good / path).read_bytes() != (bad / path).read_bytes()]
    assert changed == ["outboxd/sql/functions/cancel.sql"]
    assert len(files) > 200


@pytest.mark.parametrize("canary", ALL, ids=lambda canary: canary.name)
def test_every_canary_names_what_must_catch_it(canary):
    assert canary.law
    assert bool(canary.storm) != bool(canary.test)
    if canary.storm:
        assert canary.storm in STORMS
        assert canary.rules
        assert canary.rules <= set(RULES)


@pytest.mark.faults
def test_two_canaries_are_caught(capsys):
    assert set(QUICK) <= set(BY_NAME)
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    assert report(QUICK, seed, at_once=2) == 0, capsys.readouterr().out
