"""The programs of an older revision, run from the history of this checkout with the libraries of today."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from tests.fixtures.processes import BIN, MIGRATE_COMMAND, ROOT, NotReadyError


class NoHistoryError(RuntimeError):
    """This checkout does not have the revision: a shallow clone, or no clone at all."""


def unpack(revision: str, folder: Path) -> Path:
    """Put the tree of a revision into a folder.

    Raises:
        NoHistoryError: If it cannot be had.
    """
    done = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        raise NoHistoryError(done.stderr.decode(errors="replace").strip())
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def previous_revision() -> str:
    """The commit before this one, as long as it has no migration that this checkout lacks: nothing is released yet.

    Without such a commit it is this one itself, so that programs of two processes still take over from each other.
    With the first release its tag belongs here.

    Raises:
        NoHistoryError: If there is no history.
    """
    migrations = {path.name for path in (ROOT / "migrations" / "versions").glob("*.py")}
    for revision in ("HEAD~1", "HEAD"):
        done = subprocess.run(
            ["git", "ls-tree", "--name-only", revision, "migrations/versions/"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        names = {Path(line).name for line in done.stdout.splitlines()}
        if names and names <= migrations:
            return revision
    raise NoHistoryError("no commit has the migrations of this checkout")


def migrate_to_head(tree: Path, env: dict[str, str]) -> None:
    """Run the migrations of a tree as its migrate container does.

    Raises:
        NotReadyError: If they fail.
    """
    done = subprocess.run(
        [str(BIN / MIGRATE_COMMAND[0]), *MIGRATE_COMMAND[1:]],
        cwd=tree, env={**env, "PYTHONPATH": str(tree)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise NotReadyError(f"migrations failed:\n{done.stdout}\n{done.stderr}")
