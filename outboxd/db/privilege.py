"""What the daemon's role must be allowed, read from the statements that the daemon runs.

So the list cannot grow old. A table needs `select` where it is read, `insert`, `update` and `delete` where it is
written, `update` also where its rows are locked; a function needs `execute`.
"""

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Final

BY_HAND: Final = frozenset(
    {"dead", "email", "operation", "policy", "schema", "suppression"}
)  # nouns of other commands
DAEMONS_TOO: Final = (  # of these nouns
    "schema/extend_partitions", "policy/all", "policy/overrides", "policy/rules", "suppression/among", "suppression/take_out",
)  # fmt: skip
WRITES: Final = re.compile(r"\b(insert into|delete from|update)\s+outboxd\.(\w+)")
READS: Final = re.compile(r"(?<!delete )\b(?:from|join)\s+outboxd\.(\w+)\b(?!\s*\()")
LOCKS: Final = re.compile(r"\bfor (?:no key )?(?:update|share|key share)\b(?: of (\w+))?")
CALLS: Final = re.compile(r"(?<!into )\boutboxd\.(\w+)\(")

Need = tuple[str, str]  # privilege, name


def needs() -> list[Need]:
    """Every (privilege, name of a table, view or function) in schema `outboxd`, sorted."""
    names = [
        f"{noun.name}/{file.name.removesuffix('.sql')}"
        for noun in (files("outboxd.sql") / "queries").iterdir()
        if noun.is_dir() and noun.name not in BY_HAND
        for file in noun.iterdir()
        if file.name.endswith(".sql")
    ]
    return sorted({need for name in [*names, *DAEMONS_TOO] for need in _of(_statement(name))})


def _statement(name: str) -> str:
    return re.sub(r"--.*", "", (files("outboxd.sql") / "queries" / f"{name}.sql").read_text("utf-8"))


def _of(text: str) -> Iterator[Need]:
    """What one statement needs."""
    writes = list(WRITES.finditer(text))
    for place, write in enumerate(writes):
        verb, table = write.groups()
        rest = text[write.end() : writes[place + 1].start() if writes[place + 1 :] else None]
        yield verb.split()[0], table
        if verb == "insert into" and "do update" in rest:
            yield "update", table
        if verb != "insert into" or "do update" in rest:
            yield "select", table  # its WHERE or SET reads
    for table in READS.findall(text):
        yield "select", table
    for lock in LOCKS.finditer(text):
        before, alias = text[: lock.start()], lock.group(1)
        locked = (
            re.findall(rf"\boutboxd\.(\w+) as {alias}\b", before) or [alias]
            if alias
            else READS.findall(before)
        )
        if locked:
            yield "update", locked[-1]
    for function in CALLS.findall(text):
        yield "execute", function
