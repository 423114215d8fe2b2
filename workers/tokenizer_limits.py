"""What a process gives up before it runs chat template and tokenizer of a proxy model, which may be anybody's."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_UNUSED = frozenset({"torch", "sklearn", "scipy", "pandas"})


class _WithoutTorch(PathFinder):
    """Finds modules as ever, but neither torch nor what transformers would import only because it is installed."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Nothing for those."""
        if fullname.partition(".")[0] in _UNUSED:
            return None
        return super().find_spec(fullname, path, target)


def do_without_torch() -> None:
    """Import no torch from now on: a tokenizer needs none, and with it no limit of memory would mean anything."""
    sys.meta_path[:] = [_WithoutTorch if finder is PathFinder else finder for finder in sys.meta_path]


def limit_rendering(memory_bytes: int, seconds: float) -> None:
    """Hold this process to limits; cannot be taken back.

    Args:
        memory_bytes: Address space, what is taken already included.
        seconds: Processor time from now on; then the process is ended by SIGXCPU.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    last = int(time.process_time() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (last, last + 1))
