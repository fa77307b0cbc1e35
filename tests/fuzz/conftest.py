"""Inputs of strangers: no crash, no slow input, no input that takes memory. OUTBOXD_FUZZ=100 tries a hundred times as many."""

import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def postgres(server: str, template: str) -> Iterator[psycopg.Connection]:
    """One database for all examples."""
    from servers import fresh_database

    for url in fresh_database(server, template):
        with psycopg.connect(url) as conn:
            yield conn
