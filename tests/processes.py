"""Programs that tests put on a PATH, and what the system says of a process that they have started or killed."""

from pathlib import Path


def runs(pid: int) -> bool:
    """Whether it runs; a zombie does not. It may end between the opening of its file and the reading."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def program(path: Path, script: str) -> None:
    """A program that is this shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
