"""The tokenizer of a proxy model, without its weights: works where no torch is installed."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from spice_select.config import ProxyConfig
from spice_select.errors import UnknownProxyError, UnsupportedProxyError
from spice_select.models.gguf_file import gguf_arguments
from spice_select.models.hub_files import SMALL, download
from spice_select.models.model_files import BUILTIN, check_local, is_folder, is_gguf, read_config
from spice_select.models.tiny import build_tiny_tokenizer


def proxy_tokenizer(proxy: ProxyConfig) -> Any:
    """The tokenizer that the gradients of a proxy model are taken with.

    Args:
        proxy: Which model.

    Raises:
        UnknownProxyError: No such model, folder or revision.
        UnsafeProxyError: Pickled weights or a model with its own code.
        UnsupportedProxyError: No causal language model, or a tokenizer that gives no character offsets.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
    if proxy.model.startswith("builtin:"):
        if proxy.model not in BUILTIN:
            raise UnknownProxyError(f"no built-in model {proxy.model}; there is {', '.join(BUILTIN)}")
        return build_tiny_tokenizer()
    if is_folder(proxy.model):
        folder = Path(proxy.model).expanduser()
        check_local(folder)
        if is_gguf(str(folder)):
            return load_tokenizer(folder, proxy.model, None)
    else:
        folder = download(proxy.model, proxy.revision, SMALL)
    return load_tokenizer(folder, proxy.model, read_config(folder).get("max_position_embeddings"))


def load_tokenizer(folder: Path, name: str, context: object) -> Any:
    """The tokenizer in a model folder or a GGUF file.

    Args:
        folder: The folder, or the file.
        name: What the model is called.
        context: Longest text that the model takes, tokens; anything but a number counts as no limit.

    Raises:
        UnsupportedProxyError: It cannot be loaded, or gives no character offsets.
    """
    source, more = (folder.parent, gguf_arguments(folder)) if is_gguf(str(folder)) else (folder, {})
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source, **more, trust_remote_code=False, local_files_only=True)  # nosec B615: a folder
    except (OSError, ValueError, KeyError, IndexError, ImportError, TypeError, AttributeError, struct.error) as error:
        raise UnsupportedProxyError(f"the tokenizer of {name} cannot be loaded: {error}") from error
    if not tokenizer.is_fast:
        raise UnsupportedProxyError(f"the tokenizer of {name} gives no character offsets; a fast one is needed")
    if isinstance(context, int):
        tokenizer.model_max_length = min(int(tokenizer.model_max_length), context)
    return tokenizer
