"""Files that are under their name as a whole or not at all, whenever the machine stops."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(path: Path, payload: bytes) -> None:
    """Write a file that appears under its name only when all of it is on the disk.

    Args:
        path: Where to; an existing file is replaced.
        payload: Its bytes.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        draft.write_bytes(payload)
        move_whole(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def move_whole(path: Path, target: Path) -> None:
    """Give a finished file of the same file system its name: its bytes first, then the name, then the folder's entry.

    Args:
        path: The file, closed; gone afterwards.
        target: Its name, in a folder that is there; an existing file is replaced.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
