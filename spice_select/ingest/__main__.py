"""The child process of the intake: limits itself, then reads. ``python -m spice_select.ingest SOURCE FOLDER TASK``."""

from __future__ import annotations

import errno
import resource
import sys
import time
import traceback
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

from spice_select.errors import DatasetError
from spice_select.ingest.manifest import IntakeLimits
from spice_select.ingest.process import FAILED, ChildTask, ChildWord

_REPORT_SECONDS: Final = 0.25
_LAST_SECONDS: Final = 5


def limit_process(limits: IntakeLimits) -> None:
    """Give up what the reading does not need; cannot be taken back.

    Args:
        limits: Memory, processor time and file size that are left.

    Raises:
        OSError: The system does not take a limit.
        ValueError: The same.
    """
    wanted = {
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_FSIZE: limits.max_output_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 256,
    }
    for kind, most in wanted.items():
        _, hard = resource.getrlimit(kind)
        # At the soft limit of time comes a signal that says so, at the hard one only the end.
        last = most + _LAST_SECONDS if kind == resource.RLIMIT_CPU else most
        hard = last if hard == resource.RLIM_INFINITY else min(last, hard)
        try:
            resource.setrlimit(kind, (min(most, hard), hard))
        except (OSError, ValueError):
            # macOS knows no limit on address space; everywhere else a limit that does not hold is an error.
            if sys.platform != "darwin":
                raise


class _Reporter:
    """Says where the reading is, a few times a second. A parent that is gone ends the reading by the broken pipe."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, rows: int, done: int, total: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _REPORT_SECONDS
            say(ChildWord(rows=rows, bytes=done, total_bytes=total))


_UNUSED: Final = frozenset({"pandas", "numpy", "cloudpickle"})


class WithoutTheUnused(MetaPathFinder):
    """Arrow imports these where they are installed, only to see that it is given none of their arrays or file systems.

    Pandas takes 0.4 s, more than everything else that is done for a small file, and the others a fifth of the rest.
    """

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """Nothing, and for what is not used the end of the search.

        Raises:
            ModuleNotFoundError: For that.
        """
        if fullname in _UNUSED:
            raise ModuleNotFoundError(fullname, name=fullname)
        return None


def say(word: ChildWord) -> None:
    """Tell the parent, one line of JSON."""
    sys.stdout.write(word.model_dump_json(exclude_defaults=True) + "\n")
    sys.stdout.flush()


def main(source: str, folder: str, argument: str) -> int:
    """Do what the parent asked for.

    Args:
        source: Path of the file to read.
        folder: Path of the data set folder.
        argument: A ``ChildTask`` as JSON.

    Returns:
        0, or ``FAILED`` after saying what is wrong.
    """
    task = ChildTask.model_validate_json(argument)
    limit_process(task.limits)
    sys.meta_path.insert(0, WithoutTheUnused())
    try:
        from spice_select.ingest.parse import parse

        manifest = parse(Path(source), Path(folder), task.options, task.limits, _Reporter(), continues=task.continues)
        say(ChildWord(rows=manifest.num_rows, bytes=manifest.bytes, total_bytes=manifest.bytes))
    except DatasetError as error:
        pointer = error.errors[0]["pointer"] if error.errors else None
        several = error.errors if len(error.errors) > 1 else None
        word = ChildWord(
            code=error.code,
            detail=error.detail,
            pointer=pointer,
            errors=several,
            reasons=dict(error.reasons) or None,
            column_names=list(error.column_names),
        )
    except MemoryError:
        detail = f"reading the file needs more than {task.limits.memory_bytes} bytes of memory"
        word = ChildWord(code="dataset-unreadable", detail=detail)
    except OSError as error:
        if error.errno == errno.EFBIG:
            detail = f"what comes out of the file is larger than {task.limits.max_output_bytes} bytes"
            word = ChildWord(code="dataset-too-large", detail=detail)
        else:
            word = ChildWord(code="dataset-unreadable", detail=f"reading the file failed: {error.strerror}")
    except Exception as error:  # a hole in the reader must not pass for good data
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename.rsplit('/', 1)[-1]}:{place.lineno}"
        detail = f"the reader of the file failed ({type(error).__name__} at {where})"
        word = ChildWord(code="dataset-unreadable", detail=detail)
    else:
        return 0
    say(word)
    return FAILED


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
