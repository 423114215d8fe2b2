"""Shards come back as they were written, or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from pathlib import Path

import numpy as np
import pytest

from spice_select import atomic_files
from spice_select.errors import CorruptShardError, MismatchedShardError
from spice_select.storage import shards
from spice_select.storage.shards import GradientShard, read_shard, write_shard


def shard_of(samples: int, width: int = 5) -> GradientShard:
    draw = np.random.default_rng(samples)
    return GradientShard(
        features=draw.standard_normal((samples, width)).astype(np.float32),
        rows=np.arange(samples, dtype=np.int64) * 2 + 1000,
        losses=draw.standard_normal(samples),
        tokens=draw.integers(1, 900, samples),
        label_tokens=draw.integers(1, 90, samples),
        excluded=[{"row": 3, "code": "too-long", "detail": "1025 tokens, at most 1024 are allowed: “naïve”"}],
        truncated=[1002, 1006],
        header={"fingerprint": "f" * 64, "config": {"sketch_dim": 64}, "device": "cpu"},
    )


@pytest.mark.parametrize("samples", [0, 1, 7])
def test_what_is_written_is_read(tmp_path: Path, samples: int) -> None:
    shard = shard_of(samples)
    digest = write_shard(tmp_path / "shard.safetensors", shard)
    assert digest == hashlib.sha256((tmp_path / "shard.safetensors").read_bytes()).hexdigest()
    found = read_shard(tmp_path / "shard.safetensors", digest, "f" * 64)
    for field in dataclasses.fields(GradientShard):
        before, after = getattr(shard, field.name), getattr(found, field.name)
        if isinstance(before, np.ndarray):
            assert before.dtype == after.dtype
            assert np.array_equal(before, after)
        else:
            assert before == after


def test_the_same_shard_is_the_same_bytes(tmp_path: Path) -> None:
    first = write_shard(tmp_path / "a", shard_of(4))
    other_order = dict(reversed(shard_of(4).header.items()))
    assert write_shard(tmp_path / "b", dataclasses.replace(shard_of(4), header=other_order)) == first


def test_every_flipped_bit_is_found_without_knowing_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    write_shard(path, shard_of(3))
    sound = path.read_bytes()
    for place in range(len(sound)):
        changed = bytearray(sound)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(changed)
        with pytest.raises(CorruptShardError):
            read_shard(path)


def test_a_file_cut_short_extended_emptied_or_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    write_shard(path, shard_of(3))
    sound = path.read_bytes()
    for changed in (sound[:-1], sound[: len(sound) // 2], sound[:7], b"", sound + b"\0", b"\xff" * 300):
        path.write_bytes(changed)
        with pytest.raises(CorruptShardError):
            read_shard(path)
    path.unlink()
    with pytest.raises(CorruptShardError, match="cannot be read"):
        read_shard(path)


def test_random_bytes_never_do_worse_than_being_refused(tmp_path: Path) -> None:
    path, draw = tmp_path / "shard", random.Random(1)
    write_shard(path, shard_of(3))
    sound = path.read_bytes()
    for _ in range(300):
        start = draw.randrange(len(sound))
        noise = draw.randbytes(draw.randint(1, 40))
        changed = sound[:start] + noise + sound[start + len(noise) :]
        if changed == sound:
            continue
        path.write_bytes(changed)
        with pytest.raises(CorruptShardError):
            read_shard(path)


def test_another_digest_and_another_fingerprint_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    digest = write_shard(path, shard_of(3))
    with pytest.raises(CorruptShardError, match="sha256"):
        read_shard(path, "0" * 64)
    with pytest.raises(MismatchedShardError, match="other data"):
        read_shard(path, digest, "e" * 64)


def test_a_shard_of_another_format_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "shard"
    monkeypatch.setattr(shards, "GRADIENT_FORMAT", 999)
    write_shard(path, shard_of(3))
    monkeypatch.undo()
    with pytest.raises(MismatchedShardError, match="format 999"):
        read_shard(path)


def test_an_interrupted_write_leaves_the_old_shard_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "shard"
    digest = write_shard(path, shard_of(3))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic_files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_shard(path, shard_of(4))
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["shard"]
    assert len(read_shard(path, digest).rows) == 3


def test_arrays_of_unlike_length_are_not_written(tmp_path: Path) -> None:
    broken = dataclasses.replace(shard_of(3), losses=np.zeros(2))
    with pytest.raises(ValueError, match="unlike length"):
        write_shard(tmp_path / "shard", broken)
    assert not list(tmp_path.iterdir())
