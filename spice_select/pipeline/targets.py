"""The targets and protected sets of a run: their rows, which leave the pool, and gradients whitened with the pool's."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from spice_select.arrays import StackedArrays
from spice_select.config import SelectionConfig
from spice_select.errors import ConfigError, PoolError
from spice_select.pipeline.pool import Pool, read_texts
from spice_select.results.run_metadata import TargetFacts
from spice_select.selection.bm25 import bm25_scores
from spice_select.selection.gradient_matrix import GradientMatrix, Gradients
from spice_select.selection.methods import GREEDY, SideData
from spice_select.selection.protected import Protected, protect_from
from spice_select.selection.target_mix import floors_for, mix_of
from spice_select.selection.target_span import in_span
from spice_select.selection.whitening import Whitening, second_moments

IN_TARGET, IN_PROTECTED = "in-target", "in-protected"
"""Codes of a row of the pool that is a row of a target, or of a protected set, as well."""


@dataclass(frozen=True)
class TargetFile:
    """A file of records that say what the model should get better at, or must not get worse at.

    Attributes:
        name: Name of the target.
        file: The file.
        weight: Share of the picks, relative to the other targets; for a protected set, the factor of its charge.
    """

    name: str
    file: Path
    weight: float = 1.0


@dataclass(frozen=True)
class TargetRows:
    """The rows of one target, or protected set, before anything is measured of them.

    Attributes:
        name: Name of the target.
        weight: Share of the picks, relative to the other targets.
        rows_shards: ``rows-*.parquet`` that hold its rows, in order.
        members: Position of each of its rows in those.
        source_rows: Row of each in what the set was made from.
    """

    name: str
    weight: float
    rows_shards: Sequence[Path]
    members: Sequence[int]
    source_rows: Sequence[int]

    def conversations(self) -> list[bytes]:
        """A digest of the conversation of every row of it."""
        digests = _conversations(self.rows_shards)
        return [digests[place] for place in self.members]

    def texts(self) -> list[str]:
        """What every row of it says."""
        said = read_texts(self.rows_shards)
        return [said[place] for place in self.members]


@dataclass(frozen=True)
class TargetSet:
    """One target, or protected set, with its gradients.

    Attributes:
        facts: What the result says about it.
        features: Gradients of its rows by the pool's proxy and settings, shape (m, d).
        rows_shards: ``rows-*.parquet`` that hold its rows, in order.
        positions: Position in those of each of its rows that has a gradient.
        source_rows: Row of each gradient in what the set was made from.
        members: Position of each of its rows in those; None for all of them.
    """

    facts: TargetFacts
    features: np.ndarray | StackedArrays
    rows_shards: Sequence[Path]
    positions: Sequence[int]
    source_rows: Sequence[int]
    members: Sequence[int] | None = None

    @property
    def name(self) -> str:
        """Name of the target."""
        return self.facts.name

    def conversations(self) -> list[bytes]:
        """A digest of the conversation of every usable row of it."""
        digests = _conversations(self.rows_shards)
        return digests if self.members is None else [digests[place] for place in self.members]


@dataclass(frozen=True)
class Prepared:
    """What the selection compares.

    Attributes:
        candidates: The pool, whitened where the settings say so.
        targets: Gradients of each target's rows.
        given: Gradients already owned, or None.
        protected: How the rows point relative to the protected sets; None without any.
    """

    candidates: GradientMatrix
    targets: Sequence[Gradients]
    given: Gradients | None
    protected: Protected | None = None


def rows_in_targets(
    rows_shards: Sequence[Path],
    positions: Sequence[int],
    targets: Sequence[TargetSet | TargetRows],
    protect: Sequence[TargetSet | TargetRows] = (),
) -> list[dict[str, Any]]:
    """Candidates whose conversation is a row of a target: they say nothing about what the rest of the pool is worth.

    Args:
        rows_shards: The pool's ``rows-*.parquet``, in order.
        positions: Position of each candidate among the usable rows.
        targets: The targets.
        protect: The protected sets, whose rows are the same.

    Returns:
        ``{"row": position, "code", "detail"}`` of each.

    Raises:
        PoolError: Every candidate is in a target.
    """
    found: dict[bytes, dict[str, str]] = {}
    for code, what, sets in ((IN_TARGET, "target", targets), (IN_PROTECTED, "protected set", protect)):
        for one in sets:
            entry = {"code": code, "detail": f"the row is in the {what} {one.name!r}"}
            for digest in one.conversations():
                found.setdefault(digest, entry)
    digests = _conversations(rows_shards)
    excluded = [{"row": position, **found[digests[position]]} for position in positions if digests[position] in found]
    if len(excluded) == len(positions):
        pointer = "#/protect" if protect and not targets else "#/targets"
        raise PoolError(
            "every candidate is a row of a target or a protected set: nothing is left to select from", pointer=pointer
        )
    return excluded


def refuse_both(targets: Sequence[TargetSet], protect: Sequence[TargetSet]) -> None:
    """Refuse a protected set of the same rows as a target: no row could serve one and leave the other alone.

    Args:
        targets: The targets.
        protect: The protected sets.

    Raises:
        ConfigError: There is one.
    """
    if not protect:
        return
    wanted = {frozenset(target.conversations()): target.facts.name for target in targets}
    for number, one in enumerate(protect):
        same = wanted.get(frozenset(one.conversations()))
        if same is not None:
            raise ConfigError(same_rows(one.facts.name, same), pointer=f"#/protect/{number}")


def same_rows(name: str, target: str) -> str:
    """What is wrong with a protected set that is a target as well.

    Args:
        name: Its name.
        target: Name of the target.
    """
    return f"the protected set {name!r} has the same rows as the target {target!r}"


def target_scores(
    config: SelectionConfig, pool: Pool, rows_shards: Sequence[Path], targets: Sequence[TargetSet]
) -> list[torch.Tensor] | None:
    """BM25 of every candidate for each row of each target, float64 of shape (n, m); None for other methods.

    Args:
        config: How to select.
        pool: The pool.
        rows_shards: The pool's ``rows-*.parquet``, in order.
        targets: The targets.
    """
    if config.method != "bm25":
        return None
    texts = read_texts(rows_shards)
    queries = [read_texts(target.rows_shards) for target in targets]
    rows = [[said[place] for place in target.positions] for said, target in zip(queries, targets, strict=True)]
    scores = bm25_scores([texts[place] for place in pool.positions.tolist()], [text for part in rows for text in part])
    return list(torch.split(scores, [len(part) for part in rows], dim=1))


def prepare(
    pool: Pool,
    targets: Sequence[TargetSet],
    config: SelectionConfig,
    given: np.ndarray | None = None,
    protect: Sequence[TargetSet] = (),
) -> Prepared:
    """Whiten the pool and what goes with it, where there are targets and the settings say so.

    What points against a protected set is told by whitened gradients without targets too.

    Args:
        pool: The pool; features that are in memory are overwritten where there are targets.
        targets: The targets.
        config: How to select.
        given: Gradients already owned, shape (m, d).
        protect: The protected sets.

    Raises:
        ConfigError: Gradients that do not say which numbers belong to which layer.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _whitening()
    features = [target.features for target in targets]
    candidates = GradientMatrix(pool.features, pool.stored)
    is_targeted = bool(targets) and config.method in GREEDY
    if not (is_targeted or protect):
        return Prepared(candidates, features, given)
    transform = _whitening(pool, candidates, config)
    if not is_targeted:
        whitened = candidates if transform is None else candidates.whitened(transform)
        return Prepared(candidates, features, given, _protected(whitened, protect, transform))
    prepared = Prepared(candidates, features, given)
    if transform is not None:
        prepared = _whitened_pool(pool, candidates, features, transform, given)
    prepared = replace(prepared, protected=_protected(prepared.candidates, protect, transform))
    return _in_span(prepared) if config.span else prepared


def _in_span(prepared: Prepared) -> Prepared:
    """What all figures of the result are about, those of random rows as well."""
    owned = None if prepared.given is None else _rows(prepared.given)
    side = SideData(targets=tuple(_rows(rows) for rows in prepared.targets), given=owned)
    candidates, projected = in_span(prepared.candidates, side)
    return Prepared(candidates, projected.targets, projected.given, prepared.protected)


def _protected(
    candidates: GradientMatrix, protect: Sequence[TargetSet], transform: Whitening | None
) -> Protected | None:
    """How the rows point relative to the protected sets; None without any."""
    if not protect:
        return None
    rows = [_rows(one.features) if transform is None else _whitened(one.features, transform) for one in protect]
    return protect_from(candidates, rows, [one.facts.weight for one in protect])


def _rows(gradients: Gradients) -> torch.Tensor:
    matrix = GradientMatrix(gradients)
    return matrix.take(torch.arange(matrix.size))


def _whitening(pool: Pool, candidates: GradientMatrix, config: SelectionConfig) -> Whitening | None:
    """What whitens by the second moments of the pool; None where the settings say no.

    Raises:
        ConfigError: Gradients that do not say which numbers belong to which layer.
        PoolError: None of the rows that whiten has a gradient.
    """
    if config.whitening_damping is None:
        return None
    if not pool.block_sizes:
        raise ConfigError(
            "the gradients do not say which numbers belong to which layer: compute them again, or set "
            "whitening_damping to null",
            pointer="#/selection/whitening_damping",
        )
    count = None if config.whitening_rows is None else int(np.searchsorted(pool.positions, config.whitening_rows))
    if count == 0:
        raise PoolError(
            f"none of the first {config.whitening_rows} rows has a gradient to whiten by",
            pointer="#/selection/whitening_rows",
        )
    return Whitening(second_moments(candidates, pool.block_sizes, count), config.whitening_damping)


def _whitened_pool(
    pool: Pool,
    candidates: GradientMatrix,
    features: Sequence[np.ndarray | StackedArrays],
    transform: Whitening,
    given: np.ndarray | None,
) -> Prepared:
    """The pool and what goes with it, whitened."""
    others = [_whitened(rows, transform) for rows in features]
    owned = None if given is None else _whitened(given, transform)
    if isinstance(pool.features, np.ndarray):
        for start, block in candidates.blocks():
            pool.features[start : start + len(block)] = transform(block).numpy()
        return Prepared(GradientMatrix(torch.from_numpy(pool.features), pool.stored), others, owned)
    return Prepared(candidates.whitened(transform), others, owned)


def rows_of(targets: Sequence[Gradients]) -> list[torch.Tensor]:
    """Gradients of the rows of each target, float64 of shape (m, d).

    Args:
        targets: As ``prepare`` leaves them.
    """
    return [_rows(rows) for rows in targets]


def with_target_floors(
    config: SelectionConfig,
    votes: torch.Tensor,
    weights: Sequence[float],
    groups: Sequence[str],
    exclude: Sequence[int],
) -> SelectionConfig:
    """The settings with the floors that make the mix of the targets.

    Args:
        config: Settings whose quotas come from the targets.
        votes: As ``target_votes`` returns them.
        weights: Weight of each target.
        groups: Group of each candidate.
        exclude: Candidates that are never selected.
    """
    never = set(exclude)
    available = Counter(group for row, group in enumerate(groups) if row not in never)
    count = config.budget.resolve_count(len(groups)) or 0
    count = min(count, config.max_count or count, sum(available.values()))
    floors = floors_for(mix_of(votes, weights, groups), count, available)
    assert config.quotas is not None
    quotas = config.quotas.model_copy(update={"from_targets": False, "floors": floors})
    return config.model_copy(update={"quotas": quotas})


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
