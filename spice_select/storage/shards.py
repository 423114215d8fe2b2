"""Gradient shards on disk: one safetensors file each, written so that it is whole or not there, checked when read.

Tensors: ``features`` (float32, float16, or the bits of bfloat16 as uint16), ``rows``, ``losses``, ``tokens``,
``label_tokens``, ``truncated``. Metadata: one JSON object ``shard`` with ``format``, ``header`` (what the shard was
made from, with its ``fingerprint``), ``excluded``, and ``digest`` over all of it, so that a changed byte is found even
when nobody remembers the file's own sha256. The same shard is always the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from spice_select.arrays import StoreDtype, narrowed, widened
from spice_select.atomic_files import write_whole
from spice_select.errors import CorruptShardError, MismatchedShardError
from spice_select.version import GRADIENT_FORMAT

_TENSORS: dict[str, type[np.generic]] = {
    "features": np.float32,
    "rows": np.int64,
    "losses": np.float64,
    "tokens": np.int64,
    "label_tokens": np.int64,
}
_KINDS: dict[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "U16": np.uint16}
_DTYPES: dict[np.dtype[Any], StoreDtype] = {
    np.dtype(np.float32): "float32",
    np.dtype(np.float16): "float16",
    np.dtype(np.uint16): "bfloat16",
}
"""bfloat16, which numpy does not know, is kept as its bits."""


@dataclass(frozen=True)
class GradientShard:
    """Gradients of m samples of a pool.

    Attributes:
        features: float32 of shape (m, d), the (sketched) gradients. Of a mapped shard in the type they are kept in.
        rows: int64 of shape (m,), position of each sample among the usable rows of the pool; ascending.
        losses: float64 of shape (m,), nats.
        tokens: int64 of shape (m,), tokens of prompt and response.
        label_tokens: int64 of shape (m,), tokens that were learned.
        excluded: Samples of this part of the pool without a gradient, each ``{"row", "code", "detail"}``.
        truncated: Positions of samples that were cut at the maximal length.
        header: What the shard was made from; ``fingerprint`` names it.
        dtype: Type in which the features are kept in the file.
    """

    features: np.ndarray
    rows: np.ndarray
    losses: np.ndarray
    tokens: np.ndarray
    label_tokens: np.ndarray
    excluded: list[dict[str, Any]]
    truncated: list[int]
    header: dict[str, Any]
    dtype: StoreDtype = "float32"


def write_shard(path: Path, shard: GradientShard) -> str:
    """Write a shard; the file appears under its name only when all of it is on the disk.

    Args:
        path: Where to; an existing file is replaced.
        shard: What to write.

    Returns:
        Sha256 (hex) of the file.

    Raises:
        ValueError: Arrays whose lengths do not agree.
    """
    tensors = {name: np.ascontiguousarray(getattr(shard, name), dtype=kind) for name, kind in _TENSORS.items()}
    if tensors["features"].ndim != 2 or len({len(array) for array in tensors.values()}) != 1:
        raise ValueError(f"arrays of unlike length: { {name: array.shape for name, array in tensors.items()} }")
    tensors["features"] = narrowed(tensors["features"], shard.dtype)
    tensors["truncated"] = np.asarray(shard.truncated, dtype=np.int64)
    return write_tensors(path, tensors, {"format": GRADIENT_FORMAT, "header": shard.header, "excluded": shard.excluded})


def write_tensors(path: Path, tensors: dict[str, np.ndarray], about: dict[str, Any]) -> str:
    """Write arrays and what is said about them, with a digest over both; whole or not there.

    Args:
        path: Where to; an existing file is replaced.
        tensors: Contiguous arrays by name.
        about: JSON without the key ``digest``.

    Returns:
        Sha256 (hex) of the file.
    """
    about = {**about, "digest": _digest(tensors, about)}
    payload = save(tensors, {"shard": _json(about)})  # one entry: several would be written in random order
    write_whole(path, payload)
    return hashlib.sha256(payload).hexdigest()


def read_shard(path: Path, sha256: str | None = None, fingerprint: str | None = None) -> GradientShard:
    """Read a shard and check every byte of it.

    Args:
        path: The file.
        sha256: Digest (hex) the file must have, where it is known.
        fingerprint: ``header["fingerprint"]`` the shard must have, where it matters.

    Returns:
        The shard; its arrays are its own.

    Raises:
        CorruptShardError: A file that is missing, cut short or changed.
        MismatchedShardError: A sound shard of another format or fingerprint.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps below
    tensors, about = read_tensors(path, {*_TENSORS, "truncated"}, sha256)
    shard = _shard(path, tensors, about, fingerprint)
    return replace(shard, features=widened(shard.features))


def map_shard(path: Path, sha256: str | None, fingerprint: str) -> GradientShard:
    """A shard whose features stay on the disk, in a read-only memory map; everything else is read.

    Args:
        path: The file; must stay as it is while the features are in use.
        sha256: Digest (hex) the file must have; all of it is read once for that, in blocks. None where it is not known.
        fingerprint: As for ``read_shard``.

    Raises:
        CorruptShardError: A file that is missing, cut short or changed.
        MismatchedShardError: A sound shard of another format or fingerprint.
    """  # ruff: ignore[docstring-extraneous-exception] - the second is raised by _shard()
    try:
        with path.open("rb") as file:
            found = sha256 if sha256 is None else hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            layout = json.loads(file.read(length)) if found == sha256 else {}
    except OSError as error:
        raise CorruptShardError(f"{path.name} cannot be read: {error.strerror}") from error
    if found != sha256:
        raise CorruptShardError(f"the bytes of {path.name} do not match their sha256")
    with safe_open(path, framework="numpy") as opened:
        about = json.loads(opened.metadata()["shard"])
        tensors = {name: opened.get_tensor(name) for name in (*_TENSORS, "truncated") if name != "features"}
    shape, (start, end) = tuple(layout["features"]["shape"]), layout["features"]["data_offsets"]
    kind = _KINDS.get(layout["features"]["dtype"])
    if kind is None:
        raise CorruptShardError(f"{path.name} keeps its features as {layout['features']['dtype']}")
    tensors["features"] = np.zeros(shape, dtype=kind)
    if end > start:
        tensors["features"] = np.memmap(path, dtype=kind, mode="r", offset=8 + length + start, shape=shape)
    return _shard(path, tensors, about, fingerprint)


def _shard(path: Path, tensors: dict[str, np.ndarray], about: dict[str, Any], fingerprint: str | None) -> GradientShard:
    if about["format"] != GRADIENT_FORMAT:
        raise MismatchedShardError(f"{path.name} has format {about['format']}, this version reads {GRADIENT_FORMAT}")
    if fingerprint is not None and about["header"].get("fingerprint") != fingerprint:
        raise MismatchedShardError(f"{path.name} was made from other data, settings or model than asked for")
    kept = _DTYPES.get(tensors["features"].dtype)
    if kept is None:
        raise CorruptShardError(f"{path.name} keeps its features as {tensors['features'].dtype}")
    return GradientShard(
        **{name: tensors[name] for name in _TENSORS},
        excluded=about["excluded"],
        truncated=tensors["truncated"].tolist(),
        header=about["header"],
        dtype=kept,
    )


def read_tensors(
    path: Path, names: set[str], sha256: str | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what ``write_tensors`` wrote and check every byte of it.

    Args:
        path: The file.
        names: Arrays it must hold.
        sha256: Digest (hex) the file must have, where it is known.

    Returns:
        The arrays, which are their own, and what was said about them: ``format``, ``header`` and more.

    Raises:
        CorruptShardError: A file that is missing, cut short or changed.
    """
    tensors, about, _ = read_some_tensors(path, sha256)
    if set(tensors) != names:
        raise CorruptShardError(f"{path.name} is no sound shard")
    return tensors, about


def read_some_tensors(path: Path, sha256: str | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any], str]:
    """As ``read_tensors``, whatever the arrays are called.

    Args:
        path: The file.
        sha256: Digest (hex) the file must have, where it is known.

    Returns:
        The arrays, what was said about them, and the sha256 (hex) of the file.

    Raises:
        CorruptShardError: A file that is missing, cut short or changed.
    """
    try:
        payload = path.read_bytes()
    except OSError as error:
        raise CorruptShardError(f"{path.name} cannot be read: {error.strerror}") from error
    found = hashlib.sha256(payload).hexdigest()
    if sha256 is not None and found != sha256:
        raise CorruptShardError(f"the bytes of {path.name} do not match their sha256")
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["shard"])
        tensors = load(payload)
        digest = about.pop("digest")
        if _digest(tensors, about) != digest:
            raise CorruptShardError(f"the content of {path.name} does not match its digest")
        if not isinstance(about["header"], dict) or not isinstance(about["format"], int):
            raise CorruptShardError(f"{path.name} does not say what it is")
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise CorruptShardError(f"{path.name} is no sound shard") from error
    return tensors, about, found


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _digest(tensors: dict[str, np.ndarray], about: dict[str, Any]) -> str:
    """Sha256 (hex) over names, types, shapes and bytes of the tensors and over what is said about them."""
    sha = hashlib.sha256(_json(about).encode())
    for name in sorted(tensors):
        array = tensors[name]
        sha.update(f"|{name}|{array.dtype.str}|{array.shape}|".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()
