"""Tests that need programs of the host: `make test-host`. Everything in this folder carries the marker `host`.

A test says what it needs by `needs("pgbouncer")` (tests/host/needs.py), which fails with the line that installs it.
"""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "path"))
sys.path.insert(0, str(HERE))

from conftest_path import daemon, forks, reach, sink  # noqa: E402, F401 - fixtures


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what stands in this folder."""
    if HERE in item.path.parents:
        item.add_marker("host")
