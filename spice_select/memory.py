"""How much memory there is."""

from __future__ import annotations

import os
from pathlib import Path


def host_bytes() -> int:
    """Memory of this machine, or of the container the process is held in, bytes."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return whole
    return min(whole, int(limit)) if limit.isdigit() else whole
