"""A partitioned run taken apart (parts chosen alone, in files, from a pool on the disk) against one call."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spice_select.arrays import StackedArrays
from spice_select.config import Budget, GlobalScope, PartitionedScope, SelectionConfig
from spice_select.errors import BudgetError, ConfigError, CorruptShardError, EmptyPoolError, MismatchedShardError
from spice_select.pipeline.pool import load_pool, open_pool, pool_within
from spice_select.selection.partitions import Part
from spice_select.selection.select import random_control, select, select_part
from spice_select.storage.partition_files import read_part, write_part
from spice_select.storage.shards import GradientShard, write_shard

FINGERPRINT = "f" * 64
WIDTH = 9


def stored(folder: Path, sizes: list[int], seed: int = 0) -> list[tuple[Path, str]]:
    """Gradient shards of these sizes; positions have gaps, as after exclusions, and a few rows are copies."""
    draw, first, shards = np.random.default_rng(seed), 0, []
    for number, size in enumerate(sizes):
        features = draw.standard_normal((size, WIDTH)).astype(np.float32) if size else np.zeros((0, 0), np.float32)
        if size > 4:
            features[3] = features[1]
        shard = GradientShard(
            features=features,
            rows=first + 2 * np.arange(size),
            losses=draw.random(size),
            tokens=draw.integers(5, 60, size),
            label_tokens=draw.integers(1, 5, size),
            excluded=[{"row": first + 1, "code": "too-long", "detail": "1025 tokens"}],
            truncated=[],
            header={"fingerprint": FINGERPRINT, "halvings": 1},
        )
        path = folder / f"{number}.safetensors"
        shards.append((path, write_shard(path, shard)))
        first += 2 * size + 2
    return shards


def partitioned(parts: int, **changes: object) -> SelectionConfig:
    scope = PartitionedScope(kind="partitioned", parts=parts)
    return SelectionConfig.model_validate({"budget": Budget(count=12), "scope": scope, "seed": 3, **changes})


def test_a_pool_on_the_disk_is_the_pool_in_memory(tmp_path: Path) -> None:
    shards = stored(tmp_path, [7, 0, 1, 12])
    memory, disk = load_pool(shards, FINGERPRINT), open_pool(shards, FINGERPRINT)
    assert isinstance(disk.features, StackedArrays)
    assert disk.features.shape == memory.features.shape == (20, WIDTH)
    assert np.array_equal(disk.features[:], memory.features[:])
    assert np.array_equal(disk.features[5:9], memory.features[5:9])
    wild = np.array([19, 0, 7, 7, 12])
    assert np.array_equal(disk.features[wild], memory.features[wild])
    assert disk.features[4:4].shape == (0, WIDTH)
    for name in ("positions", "losses", "tokens", "label_tokens"):
        assert np.array_equal(getattr(disk, name), getattr(memory, name)), name
    assert (disk.excluded, disk.truncated, disk.halvings) == (memory.excluded, memory.truncated, memory.halvings)


def test_a_flipped_bit_of_a_pool_on_the_disk_is_found(tmp_path: Path) -> None:
    shards = stored(tmp_path, [4, 4])
    path = shards[1][0]
    sound = path.read_bytes()
    for place in range(0, len(sound), 7):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(CorruptShardError):
            open_pool(shards, FINGERPRINT)
    path.write_bytes(sound)
    with pytest.raises(MismatchedShardError):
        open_pool(shards, "e" * 64)
    path.unlink()
    with pytest.raises(CorruptShardError):
        open_pool(shards, FINGERPRINT)
    with pytest.raises(EmptyPoolError):
        open_pool(stored(tmp_path, [0]), FINGERPRINT)


@pytest.mark.parametrize("changes", [{}, {"method": "random"}, {"method": "loss"}, {"stop_ratio": 0.6, "max_count": 9}])
@pytest.mark.parametrize("parts", [1, 3, 30])
def test_parts_chosen_alone_make_the_same_selection_to_the_bit(
    tmp_path: Path, parts: int, changes: dict[str, object]
) -> None:
    shards = stored(tmp_path, [16, 9])
    config = partitioned(parts, **changes)
    memory = load_pool(shards, FINGERPRINT)
    side = {"costs": memory.tokens.tolist(), "losses": memory.losses.tolist()}
    whole = select(memory.features, config, **side)  # type: ignore[arg-type]
    order = list(range(parts))
    random.Random(1).shuffle(order)
    files = {}
    for number in order:
        pool = open_pool(shards, FINGERPRINT)
        chosen = select_part(pool.features, config, number, costs=pool.tokens.tolist(), losses=pool.losses.tolist())
        if chosen is None:
            assert number >= 25, "a pool of 25 has at most 25 parts"
            continue
        header = {"part": number}
        files[number] = (tmp_path / f"part-{number}", write_part(tmp_path / f"part-{number}", chosen, header), header)
    chosen_parts = [read_part(*files[number]) for number in sorted(files)]
    disk = open_pool(shards, FINGERPRINT).features
    assert select(disk, config, parts=chosen_parts, **side) == whole  # type: ignore[arg-type]
    assert random_control(disk, config, 12, 3) == random_control(memory.features, config, 12, 3)


def test_every_scope_states_its_bound_and_what_the_cutting_cost(tmp_path: Path) -> None:
    features = load_pool(stored(tmp_path, [40, 40]), FINGERPRINT).features
    for kind, more in (("windows", {"size": 16}), ("partitioned", {"parts": 5})):
        cut = select(
            features, SelectionConfig.model_validate({"budget": {"count": 12}, "scope": {"kind": kind, **more}})
        )
        assert cut.certificate is not None
        assert cut.scope is not None
        assert cut.utility <= cut.certificate.upper_bound
        exact = select(features, partitioned(1, scope=GlobalScope())).utility
        assert cut.scope.exact_utility == pytest.approx(exact), "the sample is the whole of a pool this small"
        assert cut.scope.loss == pytest.approx(1 - cut.utility / exact)


def test_what_a_part_chose_comes_back_as_written_or_not_at_all(tmp_path: Path) -> None:
    path, header = tmp_path / "part", {"fingerprint": FINGERPRINT, "part": 2}
    chosen = select_part(load_pool(stored(tmp_path, [30]), FINGERPRINT).features, partitioned(4), 2)
    assert chosen is not None
    digest = write_part(path, chosen, header)
    assert read_part(path, digest, header) == chosen
    assert write_part(tmp_path / "again", chosen, header) == digest
    with pytest.raises(MismatchedShardError):
        read_part(path, digest, {**header, "part": 1})
    sound = path.read_bytes()
    for place in range(0, len(sound), 11):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 4]) + sound[place + 1 :])
        with pytest.raises(CorruptShardError):
            read_part(path, digest, header)
    empty = Part([], "budget_reached", 0)
    assert read_part(path, write_part(path, empty, header), header) == empty


def test_what_has_no_parts_is_refused(tmp_path: Path) -> None:
    features = load_pool(stored(tmp_path, [9]), FINGERPRINT).features
    with pytest.raises(ConfigError):
        select_part(features, partitioned(2, scope=GlobalScope()), 0)
    with pytest.raises(BudgetError):
        select_part(features, partitioned(2), 0)
    with pytest.raises(ConfigError):
        select_part(features, partitioned(2, budget=Budget(tokens=50)), 0)


def test_pieces_of_unlike_shape_are_no_matrix() -> None:
    for pieces in ([], [np.zeros((1, 2)), np.zeros((1, 3))], [np.zeros(2)], [np.zeros((1, 2)), np.zeros((1, 2), "f4")]):
        with pytest.raises(ValueError, match="pieces"):
            StackedArrays(pieces)


@pytest.mark.parametrize(
    "changes", [{}, {"method": "facility_location"}, {"method": "dpp"}, {"budget": Budget(tokens=60)}]
)
def test_a_pool_too_large_for_the_memory_gives_the_same_selection_to_the_bit_from_the_disk(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    shards = stored(tmp_path, [16, 0, 9, 30])
    size = sum(path.stat().st_size for path, _ in shards)
    large, small = (pool_within(shards, FINGERPRINT, memory) for memory in (2 * size, 2 * size - 2))
    assert isinstance(large.features, np.ndarray)
    assert isinstance(small.features, StackedArrays)
    config = SelectionConfig(**{"budget": Budget(count=12), **changes})
    chosen = [select(pool.features, config, costs=pool.tokens.tolist()) for pool in (large, small)]
    assert chosen[0] == chosen[1]


def test_a_pool_without_digests_is_read_from_the_disk_too(tmp_path: Path) -> None:
    shards = [(path, None) for path, _ in stored(tmp_path, [5, 4])]
    assert np.array_equal(open_pool(shards, FINGERPRINT).features[:], load_pool(shards, FINGERPRINT).features)
    with pytest.raises(MismatchedShardError):
        open_pool(shards, "e" * 64)
