"""How much memory there is, and how much of it is held."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def host_bytes() -> int:
    """Memory of this machine, or of the container the process is held in, bytes."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = (CGROUP / "memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return whole
    return min(whole, int(limit)) if limit.isdigit() else whole


def held_bytes() -> int | None:
    """Memory that this process holds at present: of its GPU where it computes on one, else of the machine.

    torch is not imported for it: a process that has not loaded it, or is only doing so, holds nothing of a GPU.
    """
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    is_initialized = getattr(cuda, "is_initialized", None)
    if cuda is not None and is_initialized is not None and is_initialized():
        return int(cuda.memory_reserved())
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(device: str) -> int:
    """Most memory that this process has held: of a GPU since ``forget_peak``, of the machine since it began.

    Args:
        device: Where it computes.
    """
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(torch.device(device)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_peak(device: str) -> None:
    """Begin to count the peak of a GPU anew; that of a process on a processor cannot be forgotten.

    Args:
        device: Where it computes.
    """
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(torch.device(device))
