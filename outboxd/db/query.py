"""The statements that the program runs: one file each under sql/queries/<noun>/<verb>.sql."""

from functools import cache
from importlib.resources import files


@cache
def query(name: str) -> str:
    """The text of one statement, by "noun/verb"."""
    return (files("outboxd.sql") / "queries" / f"{name}.sql").read_text("utf-8")
