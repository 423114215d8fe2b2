"""Files below an allowed root. Opened step by step from the root, so that no link and no race leads out of it."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from app.errors import ServiceError
from app.settings import Settings
from spice_select.ingest import numbered
from spice_select.ingest.source_urls import FileSource, is_data_file
from workers.sources.fetched import Fetched, FetchedFile, Meter

_BLOCK = 2**20
_POINTER = "#/source/path"


def fetch_files(source: FileSource, folder: Path, settings: Settings, meter: Meter) -> Fetched:
    """Copy a file, or the data files of a folder, that lie below one of the roots.

    Raises:
        ServiceError: ``source-not-found``, ``source-not-allowed`` or ``download-limit``.
    """
    for root in settings.source_roots:
        steps = _steps_below(root, source.path)
        if steps is None:
            continue
        try:
            with _opened(root, steps) as descriptor:
                return _copied(descriptor, f"file:{source.path}", steps[-1] if steps else "", folder, meter)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.EMLINK}:
                raise ServiceError("source-not-allowed", "links are not followed", pointer=_POINTER) from error
            if error.errno == errno.ENOTDIR:
                continue
            raise ServiceError("source-not-found", f"it cannot be read: {error.strerror}", pointer=_POINTER) from error
    raise ServiceError("source-not-found", "there is no such file or folder below the roots", pointer=_POINTER)


def _steps_below(root: Path, path: str) -> list[str] | None:
    """The way from a root to a path; None when the path is elsewhere."""
    start = f"{str(root).rstrip('/')}/"
    if path.startswith("/"):
        if not path.startswith(start):
            return None
        path = path[len(start) :]
    steps = [step for step in path.split("/") if step not in {"", "."}]
    return None if ".." in steps else steps


@contextmanager
def _opened(root: Path, steps: list[str]) -> Generator[int]:
    """A descriptor of what is at the end of a way, none of whose steps is a link."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for step in steps:
            # Without waiting: a pipe would block until somebody writes to it.
            following = os.open(step, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = following
        yield descriptor
    finally:
        os.close(descriptor)


def _copied(descriptor: int, uri: str, name: str, folder: Path, meter: Meter) -> Fetched:
    kind = os.fstat(descriptor)
    if stat.S_ISREG(kind.st_mode):
        meter.expect(kind.st_size)
        return Fetched(uri, [_copy(descriptor, name, folder / numbered(0, name), meter)])
    if not stat.S_ISDIR(kind.st_mode):
        raise ServiceError("source-not-allowed", "it is neither a file nor a folder", pointer=_POINTER)
    names = sorted(found for found in os.listdir(descriptor) if is_data_file(found))
    if not names:
        detail = "the folder holds no file that ends in .jsonl, .json, .csv, .tsv or .parquet, plain or .gz"
        raise ServiceError("source-not-found", detail, pointer=_POINTER)
    files = []
    for position, found in enumerate(names):
        inner = os.open(found, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptor)
        try:
            if not stat.S_ISREG(os.fstat(inner).st_mode):
                raise ServiceError("source-not-allowed", f"{found[:100]!a} is not a file", pointer=_POINTER)
            files.append(_copy(inner, found, folder / numbered(position, found), meter))
        finally:
            os.close(inner)
    return Fetched(uri, files)


def _copy(descriptor: int, name: str, target: Path, meter: Meter) -> FetchedFile:
    sha256, size, before = hashlib.sha256(), 0, meter.bytes
    with os.fdopen(os.dup(descriptor), "rb") as source, target.open("wb") as out:
        while block := source.read(_BLOCK):
            size += len(block)
            meter.reached(before + size)
            sha256.update(block)
            out.write(block)
    return FetchedFile(name, size, sha256.hexdigest())
