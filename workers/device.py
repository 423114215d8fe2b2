"""Where a worker computes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal

from spice_select.models.memory import host_bytes

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
    if model is not None and model.device.type == "cpu" and getattr(model.config, "hidden_size", NARROW) < NARROW:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def resolve_device(wish: Literal["auto", "cpu", "cuda"]) -> str:
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
