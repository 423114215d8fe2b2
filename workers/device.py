"""Where a worker computes."""

from __future__ import annotations

from typing import Literal


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
