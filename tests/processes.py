"""What the system says of a process that a test has started or killed."""

from pathlib import Path


def runs(pid: int) -> bool:
    """Whether it runs; a zombie does not. It may end between the opening of its file and the reading."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
