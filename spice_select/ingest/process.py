"""Runs the reading of a source in a child process that may crash, hang or run out of memory without harm."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess  # ruff: ignore[suspicious-subprocess-import] - our own interpreter, no shell
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, NoReturn

from pydantic import BaseModel, ValidationError

import spice_select
from spice_select.errors import DatasetError, SpiceError, Stopped
from spice_select.ingest.manifest import DatasetManifest, IntakeLimits, IntakeOptions
from spice_select.ingest.stored import MANIFEST, clear_folder

Progress = Callable[[int, int, int], None]
"""Called with rows read, bytes read and bytes in all."""

FAILED: Final = 3
"""Exit status of a child that has said what is wrong with the data."""

_POLL_SECONDS: Final = 0.2
_LINE_BYTES: Final = 2**16
_END_SECONDS: Final = 30.0


class ChildTask(BaseModel):
    """What the child is asked for, as one JSON argument beside the two paths, which may hold any bytes."""

    options: IntakeOptions
    limits: IntakeLimits
    continues: IntakeOptions | None = None


class ChildWord(BaseModel):
    """One line of what the child says: where it is, or why it gave up."""

    rows: int = 0
    bytes: int = 0
    total_bytes: int = 0
    code: str | None = None
    detail: str = ""
    pointer: str | None = None
    errors: list[dict[str, str]] | None = None
    reasons: dict[str, int] | None = None
    column_names: list[str] = []


def read_dataset(
    source: Path,
    out: Path,
    options: IntakeOptions | None = None,
    limits: IntakeLimits | None = None,
    on_progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    *,
    continues: IntakeOptions | None = None,
) -> DatasetManifest:
    """Read a source into a data set folder, in a process of its own.

    Equal bytes and options give equal files. When it fails, nothing is left in the folder.

    Args:
        source: The file, or a folder of files named by ``files.numbered``; what they are, is decided by content.
        out: Folder for the result, made when missing; what an earlier run left there is replaced.
        options: What is known about the data; by default everything is found out.
        limits: Caps on the data and on the process.
        on_progress: Called a few times a second.
        should_stop: Asked a few times a second.
        continues: Form and columns that were found in the data set whose rows these begin with.

    Returns:
        The manifest.

    Raises:
        DatasetError: The source as a whole cannot be read; the code is one of ``dataset-*``.
        Stopped: ``should_stop`` said so.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _watch() and _refuse()
    limits = limits or IntakeLimits()
    out.mkdir(parents=True, exist_ok=True)
    task = ChildTask(options=options or IntakeOptions(), limits=limits, continues=continues)
    paths = (source.resolve(), out.resolve())
    with tempfile.TemporaryDirectory(prefix="spice-intake-") as empty:
        child = _start(paths, task, Path(empty))
        try:
            word = _watch(child, limits, on_progress, should_stop)
            if child.returncode != 0 or word.code is not None:
                _refuse(child.returncode, word, limits)
            return _manifest(out / MANIFEST)
        except BaseException:
            _kill(child)
            clear_folder(out)
            raise


def _start(paths: tuple[Path, Path], task: ChildTask, folder: Path) -> subprocess.Popen[bytes]:
    # Nothing of our own environment goes along: no secrets, no settings that could change the result. One thread and
    # few arenas keep the address space small however many processors there are.
    environment = {
        "PYTHONPATH": str(Path(spice_select.__file__).parent.parent),
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "PYDANTIC_DISABLE_PLUGINS": "true",
        "TZ": "UTC",
        "TMPDIR": str(folder),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }
    environment.update((name, os.environ[name]) for name in ("LD_LIBRARY_PATH", "PATH") if name in os.environ)
    return subprocess.Popen(  # ruff: ignore[subprocess-without-shell-equals-true] - our own interpreter and module
        [sys.executable, "-s", "-P", "-m", "spice_select.ingest", *paths, task.model_dump_json()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )


def _watch(
    child: subprocess.Popen[bytes],
    limits: IntakeLimits,
    on_progress: Progress | None,
    should_stop: Callable[[], bool] | None,
) -> ChildWord:
    # Follows the child until it ends; its last word.
    deadline = time.monotonic() + limits.wall_seconds
    last = ChildWord()
    assert child.stdout is not None
    output: IO[bytes] = child.stdout
    held = b""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while True:
            if should_stop is not None and should_stop():
                raise Stopped("the reading of the data set was stopped")
            if time.monotonic() > deadline:
                detail = f"reading the file took longer than {limits.wall_seconds:g} seconds"
                raise DatasetError(detail, code="dataset-unreadable")
            if not selector.select(_POLL_SECONDS):
                continue
            piece = os.read(output.fileno(), _LINE_BYTES)
            if not piece:
                break
            *lines, held = (held + piece).split(b"\n")
            for line in lines:
                last = _understood(line)
            if lines and last.code is None and on_progress is not None:
                on_progress(last.rows, last.bytes, last.total_bytes)
            if len(held) > _LINE_BYTES:
                raise DatasetError("the reader of the file ran wild", code="dataset-unreadable")
    output.close()
    try:
        child.wait(timeout=_END_SECONDS)
    except subprocess.TimeoutExpired:
        raise DatasetError("the reader of the file did not end", code="dataset-unreadable") from None
    return last


def _manifest(path: Path) -> DatasetManifest:
    try:
        return DatasetManifest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        detail = "the reader of the file left no manifest that can be understood"
        raise DatasetError(detail, code="dataset-unreadable") from None


def _understood(line: bytes) -> ChildWord:
    try:
        return ChildWord.model_validate_json(line)
    except ValidationError:
        raise DatasetError("the reader of the file said something unreadable", code="dataset-unreadable") from None


def _refuse(returncode: int, word: ChildWord, limits: IntakeLimits) -> NoReturn:
    if word.code is not None:
        refused = DatasetError(
            word.detail, code=word.code, pointer=word.pointer, errors=word.errors, reasons=word.reasons
        )
        refused.column_names = word.column_names
        raise refused
    if returncode == -signal.SIGXCPU:
        detail = f"reading the file took more than {limits.cpu_seconds} seconds of processor time"
    elif returncode < 0:
        detail = f"the reader of the file was ended by {signal.Signals(-returncode).name}"
    else:
        # It neither said what is wrong with the data nor was it ended: a fault of ours or of this machine.
        raise SpiceError(f"the reader of the file ended with status {returncode}")
    raise DatasetError(detail, code="dataset-unreadable")


def _kill(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.kill()
    child.wait()
    if child.stdout is not None:
        child.stdout.close()
