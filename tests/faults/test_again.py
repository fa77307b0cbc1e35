"""The command under a red run repeats it: it names all that the run was given."""

from pathlib import Path

import pytest

from .run import ROOT, Report, again, tell

HOME = Path("/tmp/a tree")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, ""),
        ({"tree": ROOT}, ""),
        ({"tree": HOME}, " --tree '/tmp/a tree'"),
        ({"before": HOME / "old"}, " --previous '/tmp/a tree/old'"),
        ({"tree": HOME, "before": HOME / "old"}, " --tree '/tmp/a tree' --previous '/tmp/a tree/old'"),
    ],
    ids=["nothing", "this tree", "another tree", "the release before it", "both"],
)
def test_it_names_profile_seed_and_the_trees_where_they_were_given(given, named):
    report = Report("upgrade", 7, level=2, share=0.1, **given)
    assert again(report) == f"python -m tests.faults --seed 7 --profile upgrade --level 2 --share 0.1{named}"


def test_only_a_red_run_says_how_to_see_it_again():
    told: list[str] = []
    tell(Report("short", 7), told.append)
    assert not any("again" in line for line in told)
    tell(Report("short", 7, failure="an error"), told.append)
    assert told[-1] == f"again: {again(Report('short', 7))}"
