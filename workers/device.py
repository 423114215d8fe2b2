"""Where a worker computes."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal

from spice_select.memory import host_bytes

NARROW = 512
"""Hidden size below which a processor's threads wait for each other longer than they work."""


@contextmanager
def fitting_threads(model: Any) -> Generator[None]:
    """One thread while a narrow model is measured on a processor; does not affect results.

    On two cores a second thread made the built-in model no faster when idle threads sleep, and ten times slower when
    they spin beside other work.
    """
    import torch

    before = torch.get_num_threads()
    if model.device.type == "cpu" and getattr(model.config, "hidden_size", NARROW) < NARROW:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_device(wish: Literal["auto", "cpu", "cuda"]) -> str:
    """The device for the gradients; ``auto`` takes a GPU when there is one.

    torch is imported here and not above: the parent of a Celery worker must never touch CUDA before it forks.
    """
    if wish == "cpu":
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def describe_device(device: str) -> str:
    """The device's name for the provenance."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(torch.device(device)))
    return device


def device_bytes(device: str) -> int:
    """Memory of the device; that of the machine for a processor."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.get_device_properties(torch.device(device)).total_memory)
    return host_bytes()


DEVICE_LOST = "device-lost"


def device_trouble(error: Exception) -> tuple[str, str] | None:
    """What an error says about the device, as a problem's code and detail; None when it is about something else.

    Args:
        error: Raised by a unit. torch is not imported for it: without torch there is no device to lose.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    first = (str(error).splitlines() or [""])[0]
    if isinstance(error, torch.OutOfMemoryError):
        return "out-of-memory", f"one sample alone does not fit the device: {first}"
    if isinstance(error, torch.AcceleratorError):
        return DEVICE_LOST, f"the device failed: {first}"
    return None
