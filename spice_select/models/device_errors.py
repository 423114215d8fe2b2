"""What a failing device raises, as errors of this library; torch is not imported: without it there is no device."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager

from spice_select.errors import DeviceError, DeviceLostError, DeviceMemoryError


def as_device_error(error: Exception) -> DeviceError | None:
    """What an error says about the device; None when it is about something else.

    Args:
        error: Whatever was raised.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    first = (str(error).splitlines() or [""])[0]
    if isinstance(error, torch.OutOfMemoryError):
        return DeviceMemoryError(f"one sample alone does not fit the device: {first}")
    if isinstance(error, torch.AcceleratorError):
        return DeviceLostError(f"the device failed: {first}")
    return None


@contextmanager
def device_errors() -> Generator[None]:
    """Raise what a failing device raises as an error of this library.

    Raises:
        DeviceError: Instead of torch's own.
    """  # ruff: ignore[docstring-extraneous-exception] - it is what was found
    try:
        yield
    except Exception as error:
        known = as_device_error(error)
        if known is None:
            raise
        raise known from error
