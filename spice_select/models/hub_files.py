"""Files of a model of the hub at a pinned revision; the only place of the library that asks the hub for models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from spice_select.errors import UnknownProxyError
from spice_select.models.model_files import check_config, read_config

SMALL: Final = ("*.json", "*.model", "*.txt", "*.jinja")
"""Settings, tokenizer and chat template."""
WEIGHTS: Final = (*SMALL, "*.safetensors")
"""The same and the weights."""


def download(name: str, revision: str | None, files: Sequence[str]) -> Path:
    """Folder of a hub model in the local cache; its settings are checked before anything large is fetched.

    Args:
        name: ``org/name``.
        revision: Commit, branch or tag; the default branch when None.
        files: Patterns of names.

    Raises:
        UnknownProxyError: No such model or revision, or no way to it.
        UnsafeProxyError: The model brings its own code.
        UnsupportedProxyError: Not a causal language model, or quantised weights.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by check_config()
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(SMALL)))
        check_config(read_config(folder))
        return Path(snapshot_download(name, revision=folder.name, allow_patterns=list(files)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UnknownProxyError(f"{name} cannot be had from the hub: {error}") from error
