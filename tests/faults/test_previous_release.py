"""What a rolling upgrade begins with: the newest tag, else the newest commit with an older schema, else a plain refusal."""

import subprocess
from pathlib import Path

import pytest

from .unfit import UnfitError
from .upgrade import previous, starts_again


def git(tree: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(
        ["git", "-C", tree, *who, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(tree: Path, revision: str, contract: str = "") -> str:
    for folder in ("outboxd/db", "sql", "migrations/versions"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    (tree / "sql/note").write_text(revision + contract)
    (tree / "outboxd/db/contract.py").write_text(contract)
    (tree / f"migrations/versions/{revision}_x.py").touch()
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", f"{revision} {contract}")
    return git(tree, "rev-parse", "HEAD")


@pytest.fixture
def tree(tmp_path) -> Path:
    made = tmp_path / "tree"
    made.mkdir()
    git(made, "init", "-q")
    return made


def test_it_is_the_newest_commit_whose_schema_is_older(tree, tmp_path):
    commit(tree, "0001")
    before = commit(tree, "0001", "SERVES = 1")
    commit(tree, "0002", "SERVES = 1")
    commit(tree, "0002", "SERVES = 2")
    assert previous(tree, tmp_path / "it") == before
    assert (tmp_path / "it/sql/note").read_text() == "0001SERVES = 1"
    assert starts_again(tmp_path / "it")


def test_a_tag_is_a_release_whatever_its_schema(tree, tmp_path):
    commit(tree, "0001")
    commit(tree, "0002")
    git(tree, "tag", "v0.1.0")
    commit(tree, "0002", "later")
    assert previous(tree, tmp_path / "it") == "v0.1.0"
    assert not starts_again(tmp_path / "it")


def test_without_an_older_schema_it_says_so(tree, tmp_path):
    commit(tree, "0001")
    with pytest.raises(UnfitError, match=r"no previous release.*no commit has an older schema"):
        previous(tree, tmp_path / "it")


def test_a_shallow_clone_is_told_how_to_get_its_history(tree, tmp_path):
    commit(tree, "0001")
    commit(tree, "0002")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{tree}", "shallow")
    with pytest.raises(UnfitError, match="git fetch --unshallow"):
        previous(tmp_path / "shallow", tmp_path / "it")


def test_a_tree_without_git_is_no_pass(tmp_path):
    (tmp_path / "bare/migrations/versions").mkdir(parents=True)
    with pytest.raises(UnfitError, match="git"):
        previous(tmp_path / "bare", tmp_path / "it")
