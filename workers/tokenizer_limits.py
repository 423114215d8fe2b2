"""What a process gives up before it runs chat template and tokenizer of a proxy model, which may be anybody's."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from spice_select.models.model_files import is_gguf

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


def do_without_torch(model: str) -> None:
    """Import no torch from now on: a tokenizer needs none, starts faster, and takes a tenth of the address space.

    Args:
        model: Name of the proxy model; transformers reads no GGUF file without torch.
    """
    if is_gguf(model):
        return
    sys.meta_path[:] = [_WithoutTorch if finder is PathFinder else finder for finder in sys.meta_path]


def limit_rendering(model: str, memory_bytes: int, seconds: float) -> None:
    """Hold this process to limits; cannot be taken back.

    Args:
        model: Name of the proxy model. A GGUF file is mapped, and torch loaded for it: both come on top.
        memory_bytes: Address space, what is taken already included.
        seconds: Processor time from now on; then the process is ended by SIGXCPU.
    """
    if is_gguf(model):
        import torch  # ruff: ignore[unused-import] - takes its address space now

        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        memory_bytes += taken + Path(model).stat().st_size
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 1, hard))
