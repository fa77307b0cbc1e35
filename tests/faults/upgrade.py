"""A rolling upgrade: the previous release's daemons at work, the schema migrated under them, half of them replaced.

The previous release is the newest tag before this commit; while there is none, the newest commit whose schema is older
than this tree's. Where a daemon of it may not start again on the new schema (trees from before there was such a rule),
it is not killed once the schema is new.
"""

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .daemons import migrate
from .history import History
from .unfit import UnfitError

if TYPE_CHECKING:
    from .injectors import Injector
    from .world import World

PARTS = ("outboxd", "sql", "migrations")
STOPS_WITHIN = 12.0  # seconds from SIGTERM to the exit


def head(names: list[str]) -> str:
    """The newest revision among the files of a tree's `migrations/versions`."""
    numbers = [name.rpartition("/")[2].partition("_")[0] for name in names]
    return max((number for number in numbers if number.isdigit()), default="")


def previous(tree: Path, into: Path) -> str:
    """Put the previous release's source into the directory; which commit it is. Raises `UnfitError` without history."""
    own = head([path.name for path in (tree / "migrations" / "versions").iterdir()])
    tag = _git(tree, "describe", "--tags", "--abbrev=0", "HEAD^", fails="")
    commits = [tag] if tag else _git(tree, "rev-list", "--first-parent", "HEAD").split()
    for commit in commits:
        found = head(_git(tree, "ls-tree", "--name-only", commit, "migrations/versions/").split())
        if tag or found < own:
            into.mkdir()
            archive = into / "tree.tar"
            _git(tree, "archive", "-o", str(archive), commit, *PARTS)
            subprocess.run(["tar", "-xf", archive, "-C", into], check=True)
            return commit
    shallow = _git(tree, "rev-parse", "--is-shallow-repository") == "true"
    remedy = "the clone is shallow: git fetch --unshallow" if shallow else "no commit has an older schema"
    raise UnfitError(f"there is no previous release to upgrade from: {remedy}")


def starts_again(tree: Path) -> bool:
    """Whether the tree's daemon may start on a newer schema that serves it."""
    return "SERVES" in (tree / "outboxd" / "db" / "contract.py").read_text()


def upgrade(injector: "Injector") -> None:
    """Migrate under load, then replace every other daemon by the new release's; the rest stays as it is."""
    world, began = injector.world, time.time()
    injector.wait_free("")
    migrate(world.tree, world.postgres.url)
    for slot in world.fleet.slots[::2]:
        world.wait_running(slot, injector.all_run)
        slot.stop_orderly()
        code = world.fleet.wait(slot, STOPS_WITHIN)
        assert code == 0, (
            f"the previous daemon ended with {code} on the new schema: {slot.log.read_text()[-600:]}"
        )
        slot.previous = False
        world.fleet.start(slot)
    for slot in world.fleet.slots:
        slot.mortal = not slot.previous or starts_again(world.fleet.previous_tree)
    world.upgraded_at = time.time()
    world.note("upgrade", f"from {world.upgraded_from}", began)
    world.marks["upgrade"] += 1


def idle(world: "World", history: History) -> list[str]:
    """Which of the two releases took no mail after the schema was new: then they were never at work together."""
    took = {
        move.gate
        for move in history.moves
        if move.place == "lease" and not move.gone and move.at > world.upgraded_at
    }
    releases = {"previous": True, "new": False}
    return [
        f"a claim of the {name} release on the new schema"
        for name, is_previous in releases.items()
        if not took & {str(slot.gate) for slot in world.fleet.slots if slot.previous == is_previous}
    ]


def _git(tree: Path, *arguments: str, fails: str | None = None) -> str:
    done = subprocess.run(["git", "-C", str(tree), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        if fails is not None:
            return fails
        raise UnfitError(f"git {arguments[0]} failed here: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()
