"""Load the proxy model and its tokenizer at a pinned revision.

Only safetensors and GGUF weights are read and no code of a model is ever run.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM

from spice_select.config import GradientConfig, ProxyConfig
from spice_select.defaults import with_dtype
from spice_select.errors import ConfigError, ProxyError, UnknownProxyError, UnsupportedProxyError
from spice_select.models.architecture import TINY
from spice_select.models.compute_type import is_bfloat16_fast
from spice_select.models.gguf_file import gguf_arguments
from spice_select.models.hub_files import SMALL, WEIGHTS, download
from spice_select.models.layers import check_layers
from spice_select.models.model_files import (
    BUILTIN,
    adapted_revision,
    adapter_digest,
    check_adapter,
    check_folder,
    check_local,
    file_digest,
    is_folder,
    is_gguf,
    local_digest,
    sizes_of,
    weights_digest,
)
from spice_select.models.tiny import build_tiny_model, build_tiny_tokenizer
from spice_select.models.tokenizer import load_tokenizer, proxy_tokenizer

_UNREADABLE: Final = (
    OSError, ValueError, RuntimeError, KeyError, IndexError, OverflowError, ImportError, TypeError, AttributeError,
    SafetensorError, struct.error,
)  # fmt: skip
"""What the readers of settings and weights raise on broken files."""


@dataclass(frozen=True)
class Proxy:
    """A loaded proxy model.

    Attributes:
        model: A causal language model of transformers, in evaluation mode; None where only the tokenizer is needed.
        tokenizer: Its tokenizer; ``model_max_length`` is the model's context in tokens.
        name: As it was asked for.
        revision: Hub commit, digest of a local folder, or revision of a built-in model.
        weights_sha256: Over the bytes of the weights; None without them.
        tokenizer_sha256: Over ``tokenizer.json`` and the chat template.
        adapter_sha256: Over settings and weights of the adapter that was merged into it; None without one.
    """

    model: Any
    tokenizer: Any
    name: str
    revision: str
    weights_sha256: str | None
    tokenizer_sha256: str
    adapter_sha256: str | None = None


def load_proxy(proxy: ProxyConfig, gradients: GradientConfig, *, device: str | torch.device = "cpu") -> Proxy:
    """Load a proxy model for taking gradients.

    Args:
        proxy: Which model.
        gradients: What will be measured; decides the type of the weights, and whether they are needed.
        device: Where the model goes.

    Returns:
        The model, the tokenizer and what identifies them.

    Raises:
        ConfigError: A revision for a model that has none.
        UnknownProxyError: No such model, folder or revision.
        UnsafeProxyError: Pickled weights or a model with its own code.
        UnsupportedProxyError: Not a causal language model with linear layers, or a tokenizer that does not fit it.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
    if gradients.measure == "words":
        return _without_weights(proxy)
    if proxy.model.startswith("builtin:"):
        loaded = _builtin(proxy, _dtype(gradients, TINY, device))
    elif is_folder(proxy.model):
        if proxy.revision is not None:
            raise ConfigError("a local folder has no revision", pointer="#/proxy/revision")
        folder = Path(proxy.model).expanduser()
        check_local(folder)
        loaded = _from_folder(folder, proxy.model, local_digest(folder), _dtype(gradients, sizes_of(folder), device))
    else:
        folder = download(proxy.model, proxy.revision, WEIGHTS)
        check_folder(folder)
        loaded = _from_folder(folder, proxy.model, folder.name, _dtype(gradients, sizes_of(folder), device))
    if proxy.adapter is not None:
        loaded = _adapted(loaded, Path(proxy.adapter).expanduser())
    _check_tokenizer(loaded)
    _check_finite(loaded)
    check_layers(loaded.model)  # refuse what cannot be measured before any sample is touched
    loaded.model.to(device)
    return loaded


def _dtype(gradients: GradientConfig, sizes: Mapping[str, Any] | None, device: str | torch.device) -> torch.dtype:
    settled = with_dtype(gradients, sizes, is_fast=lambda: is_bfloat16_fast(str(device)))
    dtype: torch.dtype = getattr(torch, settled.dtype)
    return dtype


def _without_weights(proxy: ProxyConfig) -> Proxy:
    """The tokenizer alone; a model of the hub is not downloaded."""
    tokenizer, folder = proxy_tokenizer(proxy), None
    if proxy.model in BUILTIN:
        revision = BUILTIN[proxy.model]
    elif is_folder(proxy.model):
        folder = Path(proxy.model).expanduser()
        revision = local_digest(folder)
    else:
        folder = download(proxy.model, proxy.revision, SMALL)
        revision = folder.name
    if proxy.adapter is not None:
        revision = adapted_revision(revision, Path(proxy.adapter).expanduser())
    kept = None if folder is None or is_gguf(str(folder)) else folder
    return Proxy(None, tokenizer, proxy.model, revision, None, _tokenizer_digest(tokenizer, kept))


def _builtin(proxy: ProxyConfig, dtype: torch.dtype) -> Proxy:
    if proxy.model not in BUILTIN:
        raise UnknownProxyError(f"no built-in model {proxy.model}; there is {', '.join(BUILTIN)}")
    revision = BUILTIN[proxy.model]
    if proxy.revision not in (None, revision):
        raise UnknownProxyError(f"{proxy.model} has revision {revision} only", pointer="#/proxy/revision")
    model, tokenizer = build_tiny_model(), build_tiny_tokenizer()
    sha = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        sha.update(f"{name}\0".encode())
        sha.update(value.numpy().tobytes())
    return Proxy(model.to(dtype), tokenizer, proxy.model, revision, sha.hexdigest(), _tokenizer_digest(tokenizer, None))


def _from_folder(folder: Path, name: str, revision: str, dtype: torch.dtype) -> Proxy:
    source, more = (folder.parent, gguf_arguments(folder)) if is_gguf(str(folder)) else (folder, {})
    try:
        config = AutoConfig.from_pretrained(source, **more, trust_remote_code=False, local_files_only=True)  # nosec B615: a folder
    except _UNREADABLE as error:
        raise UnsupportedProxyError(f"the settings of {name} cannot be used: {error}") from error
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise UnsupportedProxyError(f"{config.model_type} is not a causal language model")
    try:
        loader: Any = AutoModelForCausalLM
        model, report = loader.from_pretrained(
            source,
            **more,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except _UNREADABLE as error:
        raise ProxyError(f"the weights of {name} cannot be loaded: {error}") from error
    lacking = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if lacking:
        raise ProxyError(
            f"the weights of {name} are not complete: {lacking[0]} and {len(lacking) - 1} more are missing"
        )
    tokenizer = load_tokenizer(folder, name, getattr(config, "max_position_embeddings", None))
    if more:
        _forget_quantisation(model)
        return Proxy(model.eval(), tokenizer, name, revision, revision, _tokenizer_digest(tokenizer, None))
    return Proxy(model.eval(), tokenizer, name, revision, weights_digest(folder), _tokenizer_digest(tokenizer, folder))


def _forget_quantisation(model: Any) -> None:
    """Let the weights of a GGUF file be what they are once they are read: plain numbers."""
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, name):
            delattr(model.config, name)
    for name in ("hf_quantizer", "is_quantized", "quantization_method"):
        if hasattr(model, name):
            setattr(model, name, False if name == "is_quantized" else None)


def _adapted(loaded: Proxy, folder: Path) -> Proxy:
    """The model with an adapter merged into it; what identifies it says so."""
    check_adapter(folder)
    from spice_select.models.adapter import merge_adapter

    return replace(
        loaded,
        model=merge_adapter(loaded.model, folder).eval(),
        revision=adapted_revision(loaded.revision, folder),
        adapter_sha256=adapter_digest(folder),
    )


def _check_finite(proxy: Proxy) -> None:
    """Refuse NaN and infinity where every row meets them; in an embedding only the rows with that token do.

    Raises:
        ProxyError: There are.
    """
    tables = {id(table.weight) for table in (proxy.model.get_input_embeddings(), proxy.model.get_output_embeddings())}
    for name, weight in proxy.model.named_parameters():
        if id(weight) not in tables and not bool(torch.isfinite(weight).all()):
            raise ProxyError(f"the weights of {proxy.name} hold NaN or infinity, in {name}; save the model anew")


def _tokenizer_digest(tokenizer: Any, folder: Path | None) -> str:
    file = folder / "tokenizer.json" if folder is not None else None
    if file is not None and file.is_file():
        content = file_digest([file])
    else:
        content = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    return hashlib.sha256(f"{content}\n{tokenizer.chat_template}".encode()).hexdigest()


def _check_tokenizer(proxy: Proxy) -> None:
    if not proxy.tokenizer.is_fast:
        raise UnsupportedProxyError(f"the tokenizer of {proxy.name} gives no character offsets; a fast one is needed")
    known = proxy.model.get_input_embeddings().weight.shape[0]
    if len(proxy.tokenizer) > known:
        raise UnsupportedProxyError(
            f"the tokenizer of {proxy.name} has {len(proxy.tokenizer)} tokens, the model knows {known}"
        )
