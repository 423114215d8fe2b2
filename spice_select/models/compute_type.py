"""Whether a device computes in bfloat16 faster than in float32: told by what it says, and by a short measurement."""

from __future__ import annotations

import platform
import time
from functools import lru_cache
from pathlib import Path

import torch

LEAST_SPEEDUP = 1.3
"""bfloat16 must be this much faster in a product to be worth its precision."""
SHAPE = (256, 576, 1536)
"""Rows, inputs and outputs of the product: a batch through a layer of a model of 100 million weights."""
ROUNDS = 3


@lru_cache(maxsize=8)
def is_bfloat16_fast(device: str = "cpu") -> bool:
    """Whether bfloat16 is worth computing in on a device; measured once in a process.

    What a processor claims is not enough: under a cap on its instructions (of a hypervisor, or of oneDNN) bfloat16 was
    measured at half and at a quarter of the speed of float32.

    Args:
        device: Name of a torch device.
    """
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return claims_bfloat16() and speedup() >= LEAST_SPEEDUP


def claims_bfloat16() -> bool:
    """Whether the processor says that it multiplies in bfloat16."""
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return True
    cpuinfo = Path("/proc/cpuinfo")
    is_arm = platform.machine() in ("aarch64", "arm64")
    return is_arm and cpuinfo.is_file() and " bf16" in cpuinfo.read_text(encoding="utf-8", errors="replace")


def speedup() -> float:
    """Time of a float32 product of ``SHAPE`` divided by that of the same product in bfloat16, the best of each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # processor time of one thread: what else the machine does disturbs it least
    try:
        return _seconds(torch.float32) / _seconds(torch.bfloat16)
    finally:
        torch.set_num_threads(threads)


def _seconds(dtype: torch.dtype) -> float:
    rows, inputs, outputs = SHAPE
    left, right = torch.ones((rows, inputs), dtype=dtype), torch.ones((inputs, outputs), dtype=dtype)
    best = float("inf")
    for _ in range(ROUNDS + 1):  # the first prepares the kernel
        began = time.thread_time()
        torch.mm(left, right)
        best = min(best, time.thread_time() - began)
    return best
