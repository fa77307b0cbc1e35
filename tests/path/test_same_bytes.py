"""Under one key go the same bytes, also from a newer release; and a release that renders anew is seen here."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest_path import count
from factories import insert, payload, state_of
from waiting import until

pytestmark = [pytest.mark.path, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
Edit = tuple[str, str, str]
NEWER: list[Edit] = [
    ("core/wire.py", "LATEST: Final = 1\n", "LATEST: Final = 2\n"),
    (
        "core/wire.py",
        "{1: _serialise_1}",
        "{1: _serialise_1, 2: lambda payload, uid, frozen: _serialise_1(payload, uid, frozen) + b' '}",
    ),
    ("daemon.py", 'TAG: Final = "outboxd_uid"', 'TAG: Final = "outboxd_id"'),
]
BY_THE_LATEST: Edit = ("core/wire.py", "_SERIALISERS.get(frozen.serialiser)", "_SERIALISERS.get(LATEST)")
WITH_TODAYS_TAG: Edit = ("core/wire.py", '{"name": frozen.tag,', '{"name": "outboxd_id",')


@pytest.fixture
def release(tmp_path: Path) -> Callable[[list[Edit]], dict[str, str]]:
    """Makes another release, as copy and edits of this one; the environment that runs it."""

    def make(edits: list[Edit]) -> dict[str, str]:
        package = tmp_path / "release" / "outboxd"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "outboxd", package, ignore=ignored)
        for folder in ("sql", "migrations"):
            shutil.copytree(ROOT / folder, package / folder, ignore=ignored)
        for file, old, new in edits:
            text = (package / file).read_text()
            assert text.count(old) == 1, f"{file} has no longer one {old!r}"
            (package / file).write_text(text.replace(old, new))
        return {"PYTHONPATH": str(package.parent), "PYTHONSAFEPATH": "1"}

    return make


@pytest.fixture
def asks(conn, sink, daemon) -> Callable[[dict[str, str]], list[tuple[str, str]]]:
    """(key, hash of the body) of each ask for one email: the first by this release, the retry by another."""

    def over_an_upgrade(other: dict[str, str]) -> list[tuple[str, str]]:
        running = sink()
        first = daemon(running.url, OUTBOXD_SENDER__THREADS="2")
        retried = insert(conn, body=payload(to="fault+500.1@example.org"))
        until(lambda: count(conn, "progress") == 1, what="a failed attempt")
        assert first.terminate() == 0
        conn.execute("update outboxd.ready set scheduled_at = clock_timestamp()")
        daemon(running.url, **other)
        fresh = insert(conn, body=payload(to="fresh@example.org"))
        until(lambda: count(conn, "ready") + count(conn, "lease") == 0, what="the queue to drain")
        assert state_of(conn, fresh) == "sent"
        tags = [kept.email["tags"][-1]["name"] for kept in running.provider.inbox.values()]
        assert "outboxd_id" in tags, "the other release did not run"
        key = (
            f"obx1.{conn.execute('select uid from outboxd.email where id = %s', (retried,)).fetchone()[0]}.1"
        )
        return [(entry.key, entry.sha256) for entry in running.provider.entries if entry.key == key]

    return over_an_upgrade


def test_a_newer_serialiser_and_another_tag_leave_the_bytes_of_a_retry_alone(asks, release):
    found = asks(release(NEWER))
    assert len(found) == 2
    assert len(set(found)) == 1


@pytest.mark.parametrize("mutant", [BY_THE_LATEST, WITH_TODAYS_TAG], ids=["serialiser", "tag"])
def test_a_release_that_renders_a_retry_anew_is_seen(asks, release, mutant):
    found = asks(release([*NEWER, mutant]))
    assert len(found) >= 2
    assert len(set(found)) > 1
