"""What a proxy model's folder must look like, checked without loading anything: no torch here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spice_select.errors import UnknownProxyError, UnsafeProxyError, UnsupportedProxyError

BUILTIN = {"builtin:tiny": "tiny-2"}
"""Name -> revision of every model that is made in code; a new revision means other weights or other tokens."""

_CAUSAL = ("ForCausalLM", "LMHeadModel")
_SIZES = (
    "vocab_size", "hidden_size", "n_embd", "intermediate_size", "n_inner", "num_hidden_layers", "n_layer",
    "num_attention_heads", "n_head", "num_key_value_heads", "head_dim", "max_position_embeddings", "n_positions",
)  # fmt: skip
_LARGEST_SIZE = 2**31 - 1
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_PARTS = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
_LOCAL = ("/", "./", "../", "~")
_BLOCK = 2**22
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER = "#/proxy/adapter"


def is_folder(model: str) -> bool:
    """Whether the name of a proxy model stands for a folder of this machine, and not for a model of the hub.

    Args:
        model: As it was asked for.
    """
    return model.startswith(_LOCAL) or Path(model).is_dir()


def is_gguf(model: str) -> bool:
    """Whether the name of a proxy model stands for a GGUF file of this machine.

    Args:
        model: As it was asked for.
    """
    return model.lower().endswith(".gguf") and (model.startswith(_LOCAL) or Path(model).is_file())


def check_local(path: Path) -> None:
    """Refuse a folder, or a GGUF file, whose model cannot be used.

    Args:
        path: A folder in the form of the Hugging Face hub, or a file.

    Raises:
        UnknownProxyError: There is nothing, or no model.
        UnsafeProxyError: As ``check_folder``.
        UnsupportedProxyError: As ``check_folder``.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by check_folder()
    if not is_gguf(str(path)):
        check_folder(path)
        return
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise UnknownProxyError(f"no file {path}") from error
    if start != b"GGUF":
        raise UnknownProxyError(f"{path.name} is no GGUF file")


def local_digest(path: Path) -> str:
    """Sha256 (hex) of a GGUF file, or ``folder_digest``.

    Args:
        path: A file or a model folder.
    """
    return file_digest([path]) if is_gguf(str(path)) else folder_digest(path)


def check_adapter(path: Path) -> None:
    """Refuse a folder that holds no LoRA adapter that can be merged.

    Args:
        path: A folder as PEFT saves it.

    Raises:
        UnknownProxyError: No folder, or no ``adapter_config.json`` that can be read.
        UnsafeProxyError: Pickled weights.
        UnsupportedProxyError: Another kind of adapter.
    """
    try:
        config = json.loads((path / ADAPTER_CONFIG).read_bytes())
        kind = config["peft_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnknownProxyError(
            f"{path.name} holds no adapter of PEFT: {ADAPTER_CONFIG} is missing or cannot be read", pointer=ADAPTER
        ) from error
    if kind != "LORA":
        raise UnsupportedProxyError(
            f"{path.name} holds an adapter of the kind {str(kind)[:40]}; only LORA can be merged", pointer=ADAPTER
        )
    if not (path / "adapter_model.safetensors").is_file():
        raise UnsafeProxyError(f"{path.name} has no adapter_model.safetensors", pointer=ADAPTER)


def adapter_digest(path: Path) -> str:
    """Sha256 (hex) over settings and weights of an adapter.

    Args:
        path: A folder as PEFT saves it.
    """
    return file_digest([path / ADAPTER_CONFIG, path / "adapter_model.safetensors"])


def adapted_revision(revision: str, adapter: Path | None) -> str:
    """Revision of a model with an adapter merged into it; without one, the model's own.

    Args:
        revision: Of the model.
        adapter: Folder of the adapter.
    """
    if adapter is None:
        return revision
    return hashlib.sha256(f"{revision} adapter {adapter_digest(adapter)}".encode()).hexdigest()


def check_folder(path: Path) -> None:
    """Refuse a folder whose model cannot be used, or not without running its code or unpickling its weights.

    Args:
        path: A folder in the form of the Hugging Face hub.

    Raises:
        UnknownProxyError: No folder, or no ``config.json`` in it.
        UnsafeProxyError: The model brings its own code, or has no safetensors weights.
        UnsupportedProxyError: Not a causal language model, or no tokenizer.
    """
    if not path.is_dir():
        raise UnknownProxyError(f"no folder {path}")
    if (path / ADAPTER_CONFIG).is_file() and not (path / "config.json").is_file():
        raise UnsupportedProxyError(
            f"{path.name} holds a PEFT adapter and no model: name its base as proxy.model and this folder as "
            "proxy.adapter, or merge it (merge_and_unload) and save that"
        )
    check_config(read_config(path))
    if not any(path.glob("*.safetensors")):
        pickles = [file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in path.glob(pattern)]
        if pickles:
            raise UnsafeProxyError(
                f"{path.name} has only pickled weights ({sorted(pickles)[0]}); safetensors are needed"
            )
        raise UnknownProxyError(f"{path.name} has no safetensors weights")
    if not any((path / name).is_file() for name in _TOKENIZERS):
        # without this, transformers makes up a tokenizer that knows no word
        raise UnsupportedProxyError(f"{path.name} has no tokenizer ({_TOKENIZERS[0]})")


def read_config(path: Path) -> dict[str, Any]:
    """The ``config.json`` of a folder.

    Args:
        path: The folder.

    Raises:
        UnknownProxyError: It is missing, or not a JSON object.
    """
    try:
        config = json.loads((path / "config.json").read_bytes())
    except FileNotFoundError as error:
        raise UnknownProxyError(f"{path.name} has no config.json: not a model folder") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UnknownProxyError(f"config.json of {path.name} cannot be read") from error
    if not isinstance(config, dict):
        raise UnknownProxyError(f"config.json of {path.name} is not an object")
    return config


def sizes_of(path: Path) -> dict[str, Any] | None:
    """``config.json`` of a model; None for a GGUF file, which has none.

    Args:
        path: Its folder or file.

    Raises:
        UnknownProxyError: It is missing, or not a JSON object.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by read_config()
    return None if is_gguf(str(path)) else read_config(path)


def check_config(config: dict[str, Any]) -> None:
    """Refuse a model by its settings alone.

    Args:
        config: Content of ``config.json``.

    Raises:
        UnsafeProxyError: The model brings its own code.
        UnsupportedProxyError: Not a causal language model, quantised weights, or sizes that no model has.
    """
    if config.get("auto_map"):
        raise UnsafeProxyError("the model wants to run its own code (auto_map), which is never done")
    quantised = config.get("quantization_config")
    if quantised:
        method = quantised.get("quant_method", "quantised") if isinstance(quantised, dict) else "quantised"
        raise UnsupportedProxyError(
            f"the weights are quantised ({str(method)[:40]}), and gradients need the full ones: "
            "name the model that they were made from"
        )
    kind = config.get("model_type")
    architectures = config.get("architectures") or []
    if not kind or not isinstance(kind, str):
        raise UnsupportedProxyError("config.json names no model_type")
    if not isinstance(architectures, list):
        raise UnsupportedProxyError("architectures in config.json is not a list of names")
    if config.get("is_encoder_decoder"):
        raise UnsupportedProxyError(f"{kind} is an encoder-decoder, not a causal language model")
    if architectures and not any(str(name).endswith(_CAUSAL) for name in architectures):
        raise UnsupportedProxyError(f"{str(architectures[0])[:60]} is not a causal language model")
    _check_sizes(config)


def _check_sizes(config: dict[str, Any]) -> None:
    """Refuse sizes that no model has: each would end in another error of whatever computes with it first.

    Raises:
        UnsupportedProxyError: One of them.
    """
    for name in _SIZES:
        size = config.get(name)
        each = size if isinstance(size, list) else [] if size is None else [size]  # a few kinds have one for each block
        if any(type(one) is not int or not 0 < one <= _LARGEST_SIZE for one in each):
            raise UnsupportedProxyError(f"{name} in config.json is {str(size)[:40]}: it is a whole number above 0")
    width, heads, pairs = (config.get(name) for name in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    if not isinstance(heads, int):
        return
    if isinstance(width, int) and not config.get("head_dim") and width % heads:
        raise UnsupportedProxyError(f"hidden_size {width} in config.json does not divide into {heads} heads")
    if isinstance(pairs, int) and heads % pairs:
        raise UnsupportedProxyError(f"{heads} heads in config.json cannot share {pairs} keys and values")


def folder_digest(path: Path) -> str:
    """Sha256 (hex) over names and bytes of everything in a folder that decides weights, settings and tokens.

    Args:
        path: A model folder.
    """
    files = sorted({file for pattern in _PARTS for file in path.glob(pattern) if file.is_file()})
    sha = hashlib.sha256()
    for file in files:
        sha.update(f"{file.name}\0{file_digest([file])}\n".encode())
    return sha.hexdigest()


def weights_digest(path: Path) -> str:
    """Sha256 (hex) over the bytes of the safetensors files in the order of their names.

    Args:
        path: A model folder.
    """
    return file_digest(sorted(path.glob("*.safetensors")))


def file_digest(files: Iterable[Path]) -> str:
    """Sha256 (hex) over the bytes of files, one after the other.

    Args:
        files: What to read, in order.
    """
    sha = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                sha.update(block)
    return sha.hexdigest()
