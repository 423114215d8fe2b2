"""Keeps the data folder from other users of the machine: rows of data sets, results and the database lie in it."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from app.logs import get_logger
from app.settings import Settings

OWNER_ONLY = 0o700
WITH_GROUP = 0o770


def close_folder(settings: Settings) -> None:
    """Let nobody but its owner (and, by a setting, its group) into the data folder, nor into files to come.

    For the start of a process: what a process may give others is its own, and holds for all that it writes.

    Args:
        settings: For the folder and the setting.
    """
    allowed = _allowed(settings)
    os.umask(0o777 & ~allowed)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    _close(settings.data_dir, allowed)


def close_what_exists(settings: Settings) -> int:
    """Take from everything in the data folder what others may do with it; how much was changed.

    What belongs to another user stays as it is, and the log says so: only that user can change it.

    Args:
        settings: For the folder and the setting.
    """
    allowed = _allowed(settings)
    return sum(_close(path, allowed) for path in _everything(settings.data_dir))


def close_in_background(settings: Settings) -> threading.Thread:
    """``close_what_exists`` beside the service, which does not wait for a large folder: nobody else gets into it.

    Args:
        settings: For the folder and the setting.
    """
    thread = threading.Thread(target=close_what_exists, args=(settings,), name="permissions", daemon=True)
    thread.start()
    return thread


def _allowed(settings: Settings) -> int:
    return WITH_GROUP if settings.data_dir_group_access else OWNER_ONLY


def _everything(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        yield from (Path(place) / name for name in (*folders, *files))


def _close(path: Path, allowed: int) -> bool:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or not stat.S_IMODE(mode) & 0o777 & ~allowed:
            return False
        path.chmod(stat.S_IMODE(mode) & ~(0o777 & ~allowed))
    except FileNotFoundError:
        return False
    except OSError as error:
        get_logger().warning("data_folder_open_to_others", path=str(path), error=str(error))
        return False
    return True
