"""A proxy model in a GGUF file: transformers reads it with the package ``gguf`` and de-quantises the weights."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from spice_select.errors import UnsupportedProxyError


def gguf_arguments(path: Path) -> dict[str, str]:
    """What ``from_pretrained`` is told beside the folder of the file.

    Args:
        path: The GGUF file.

    Raises:
        UnsupportedProxyError: The package is not installed.
    """
    if find_spec("gguf") is None:
        raise UnsupportedProxyError(
            f"{path.name} is a GGUF file, which needs the package gguf: pip install 'spice-select[gguf]'"
        )
    return {"gguf_file": path.name}
