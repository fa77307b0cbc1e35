"""Fixtures of the local Resend's own tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from asking import Clock

from outboxd.sink.options import SinkOptions
from outboxd.sink.server import Running, running_sink


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def served() -> Iterator[Running]:
    with running_sink(SinkOptions(port=0, rate_limit=None)) as running:
        yield running
