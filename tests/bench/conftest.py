"""Benchmarks use the black box's fixtures, and keep their raw figures."""

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "path"))

from conftest_path import daemon, forks, reach, sink  # noqa: F401 - fixtures

OUT = Path(__file__).parent / "out"
SHORT = bool(os.environ.get("OUTBOXD_BENCH_SHORT"))


@pytest.fixture
def short() -> bool:
    """Whether this run only proves that the benchmark still works."""
    return SHORT


@pytest.fixture
def keep(request):
    """Keeps and prints one benchmark's figures."""

    def write(**figures):
        OUT.mkdir(exist_ok=True)
        (OUT / f"{request.node.name}.json").write_text(json.dumps(figures, indent=2))
        print(f"\n{request.node.name}: " + ", ".join(f"{name} {value}" for name, value in figures.items()))

    return write
