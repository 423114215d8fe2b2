"""The targets of a run: their rows, which leave the pool, and gradients whitened by the pool's second moments."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from spice_select.arrays import StackedArrays
from spice_select.config import SelectionConfig
from spice_select.errors import ConfigError, PoolError
from spice_select.pipeline.pool import Pool
from spice_select.results.run_metadata import TargetFacts
from spice_select.selection.gradient_matrix import GradientMatrix, Gradients
from spice_select.selection.methods import GREEDY, SideData
from spice_select.selection.target_span import in_span
from spice_select.selection.whitening import Whitening, second_moments

IN_TARGET = "in-target"
"""Code of a row of the pool that is a row of a target as well."""


@dataclass(frozen=True)
class TargetFile:
    """A file of records that say what the model should get better at.

    Attributes:
        name: Name of the target.
        file: The file.
        weight: Share of the picks, relative to the other targets.
    """

    name: str
    file: Path
    weight: float = 1.0


@dataclass(frozen=True)
class TargetSet:
    """One target with its gradients.

    Attributes:
        facts: What the result says about it.
        features: Gradients of its rows by the pool's proxy and settings, shape (m, d).
        rows_shards: Its ``rows-*.parquet``, in order.
    """

    facts: TargetFacts
    features: np.ndarray | StackedArrays
    rows_shards: Sequence[Path]


@dataclass(frozen=True)
class Prepared:
    """What the selection compares.

    Attributes:
        candidates: The pool, whitened where the settings say so.
        targets: Gradients of each target's rows.
        given: Gradients already owned, or None.
    """

    candidates: GradientMatrix
    targets: Sequence[Gradients]
    given: Gradients | None


def rows_in_targets(
    rows_shards: Sequence[Path], positions: Sequence[int], targets: Sequence[TargetSet]
) -> list[dict[str, Any]]:
    """Candidates whose conversation is a row of a target: they say nothing about what the rest of the pool is worth.

    Args:
        rows_shards: The pool's ``rows-*.parquet``, in order.
        positions: Position of each candidate among the usable rows.
        targets: The targets.

    Returns:
        ``{"row": position, "code", "detail"}`` of each.

    Raises:
        PoolError: Every candidate is in a target.
    """
    names: dict[bytes, str] = {}
    for target in targets:
        for digest in _conversations(target.rows_shards):
            names.setdefault(digest, target.facts.name)
    digests = _conversations(rows_shards)
    excluded = [
        {"row": position, "code": IN_TARGET, "detail": f"the row is in the target {names[digests[position]]!r}"}
        for position in positions
        if digests[position] in names
    ]
    if len(excluded) == len(positions):
        raise PoolError("every candidate is a row of a target: nothing is left to select from", pointer="#/targets")
    return excluded


def prepare(
    pool: Pool, targets: Sequence[TargetSet], config: SelectionConfig, given: np.ndarray | None = None
) -> Prepared:
    """Whiten the pool and what goes with it, where there are targets and the settings say so.

    Args:
        pool: The pool; features that are in memory are overwritten.
        targets: The targets.
        config: How to select.
        given: Gradients already owned, shape (m, d).

    Raises:
        ConfigError: Gradients that do not say which numbers belong to which layer.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _whitened_pool()
    features = [target.features for target in targets]
    if not targets or config.method not in GREEDY:
        return Prepared(GradientMatrix(pool.features, pool.stored), features, given)
    prepared = _whitened_pool(pool, features, config, given)
    return _in_span(prepared) if config.span else prepared


def _in_span(prepared: Prepared) -> Prepared:
    """What all figures of the result are about, those of random rows as well."""
    owned = None if prepared.given is None else _rows(prepared.given)
    side = SideData(targets=tuple(_rows(rows) for rows in prepared.targets), given=owned)
    candidates, projected = in_span(prepared.candidates, side)
    return Prepared(candidates, projected.targets, projected.given)


def _rows(gradients: Gradients) -> torch.Tensor:
    matrix = GradientMatrix(gradients)
    return matrix.take(torch.arange(matrix.size))


def _whitened_pool(
    pool: Pool, features: Sequence[np.ndarray | StackedArrays], config: SelectionConfig, given: np.ndarray | None
) -> Prepared:
    """The pool and what goes with it, whitened where the settings say so.

    Raises:
        ConfigError: Gradients that do not say which numbers belong to which layer.
    """
    if config.whitening_damping is None:
        return Prepared(GradientMatrix(pool.features, pool.stored), features, given)
    if not pool.block_sizes:
        raise ConfigError(
            "the gradients do not say which numbers belong to which layer: compute them again, or set "
            "whitening_damping to null",
            pointer="#/selection/whitening_damping",
        )
    candidates = GradientMatrix(pool.features, pool.stored)
    transform = Whitening(second_moments(candidates, pool.block_sizes), config.whitening_damping)
    others = [_whitened(rows, transform) for rows in features]
    owned = None if given is None else _whitened(given, transform)
    if isinstance(pool.features, np.ndarray):
        for start, block in candidates.blocks():
            pool.features[start : start + len(block)] = transform(block).numpy()
        return Prepared(GradientMatrix(torch.from_numpy(pool.features), pool.stored), others, owned)
    return Prepared(candidates.whitened(transform), others, owned)


def without(pool: Pool, exclude: Sequence[int], excluded: Sequence[Mapping[str, Any]]) -> list[int]:
    """Candidates that must not be selected, ascending.

    Args:
        pool: The pool.
        exclude: Candidates that the conditions exclude.
        excluded: Rows of the pool that were taken out, by their position.
    """
    taken_out = np.isin(pool.positions, [item["row"] for item in excluded])
    return sorted({*exclude, *np.flatnonzero(taken_out).tolist()})


def _whitened(rows: np.ndarray | StackedArrays, transform: Whitening) -> torch.Tensor:
    return transform(_rows(rows))


def _conversations(rows_shards: Sequence[Path]) -> list[bytes]:
    """A digest of the conversation of every usable row."""
    return [
        hashlib.sha256(text.encode()).digest()
        for path in rows_shards
        for text in pq.read_table(path, columns=["messages"]).column("messages").to_pylist()
    ]
