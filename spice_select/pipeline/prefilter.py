"""A prefilter: a cheap ranking of the pool for the targets, and the rows that get gradients by it.

The ranking is that of the method of the same name: target rows pick in turn. Rows that are settled (targets, owned
rows, rows that have no embedding) take no place in it and are measured as without a prefilter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spice_select.config import Prefilter, RunConfig
from spice_select.errors import BudgetError, MismatchedShardError, PoolError, Stopped
from spice_select.pipeline.constraints import read_source_rows
from spice_select.pipeline.pool import Pool, read_groups, read_texts
from spice_select.pipeline.targets import TargetRows, rows_in_targets
from spice_select.selection.bm25 import bm25_scores
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.round_robin import RoundRobin, cosines
from spice_select.selection.target_rule import read_shares
from spice_select.selection.validation import check_quotas
from spice_select.storage.shards import read_some_tensors, write_tensors
from spice_select.version import PREFILTER_FORMAT

PREFILTERED, EXCLUDED = "prefiltered", "exclude"
"""Codes of rows without a gradient: by their rank, and because the job names them among those to exclude."""

REPORT_ROWS = 1000
"""Rows that are ranked between two words about it."""

Embed = Callable[[Sequence[Path]], Pool]
"""Embeddings of the usable rows in these ``rows-*.parquet``."""


@dataclass(frozen=True)
class Prefiltered:
    """Which rows of a pool get gradients, and how the others were ranked.

    Attributes:
        order: Position of each ranked row, the best first, int64 of shape (m,).
        scores: Score of each for the target row that it was ranked by, float64 of shape (m,).
        judges: That target row as a place in ``target_rows``, int64 of shape (m,).
        kept: Positions of all rows that get gradients, ascending, int64.
        withheld: Positions of rows that the job excludes, ascending, int64.
        target_rows: Name of the target and number of the row in its source, of each target row.
        cut: How many of the first ranks are kept.
        result: What the report says: ``method``, ``keep``, ``ranked``, ``kept``, ``measured``, and ``emptied`` groups.
        sha256: Digest (hex) of the file that holds all this; empty before it is written.
    """

    order: np.ndarray
    scores: np.ndarray
    judges: np.ndarray
    kept: np.ndarray
    withheld: np.ndarray
    target_rows: Sequence[tuple[str, int]]
    cut: int
    result: Mapping[str, Any]
    sha256: str = ""

    def left_out(self, first: int, after: int) -> list[dict[str, Any]]:
        """Rows of a range that get no gradient, each with the reason, as a shard lists them.

        Args:
            first: Position of the first row of the range.
            after: That of the row behind it.
        """
        places = np.flatnonzero((self.order >= first) & (self.order < after))
        places = places[~np.isin(self.order[places], self.kept)]
        found = [
            {"row": int(self.order[place]), "code": PREFILTERED, "detail": self._detail(int(place))}
            for place in places.tolist()
        ]
        found += [
            {"row": row, "code": EXCLUDED, "detail": "the job names it among the rows to exclude"}
            for row in self.withheld.tolist()
            if first <= row < after
        ]
        return sorted(found, key=lambda item: item["row"])

    @cached_property
    def _thresholds(self) -> dict[int, float]:
        """Score of the last row kept for each target row that has one; every shard of a pool asks for them."""
        return dict(zip(self.judges[: self.cut].tolist(), self.scores[: self.cut].tolist(), strict=True))

    def _detail(self, place: int) -> str:
        judge = int(self.judges[place])
        name, row = self.target_rows[judge]
        threshold = f"scores {self._thresholds[judge]:.4g}" if judge in self._thresholds else "is none"
        return (
            f"rank {place + 1} of {len(self.order)} by {self.result['method']}, the first {self.cut} are kept; "
            f"it scores {self.scores[place]:.4g} for row {row} of the target {name!r}, for which the last row kept "
            f"{threshold}"
        )


def prefilter(
    config: RunConfig,
    rows_shards: Sequence[Path],
    targets: Sequence[TargetRows],
    protect: Sequence[TargetRows],
    base_rows: Sequence[int],
    embed: Embed,
    *,
    on_progress: Callable[[int, int], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Prefiltered:
    """Rank the rows of a pool for the targets and keep the best.

    Args:
        config: Settings of the run, with a prefilter.
        rows_shards: The pool's ``rows-*.parquet``, in order.
        targets: The targets.
        protect: The protected sets, whose rows leave the pool.
        base_rows: Rows of the source in the base selection.
        embed: Takes embeddings, for the method ``embedding``.
        on_progress: Called as (rows ranked, all of them) now and then.
        should_stop: Asked as often.

    Raises:
        BudgetError: The rows kept are too few for the budget or the quotas.
        PoolError: No row is left to rank, or a target has no embedding.
        Stopped: ``should_stop`` said so.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
    asked, conditions = config.conditions.prefilter, config.conditions
    assert asked is not None
    sources = read_source_rows(rows_shards)
    usable = len(sources)
    settled = np.isin(sources, list(base_rows))
    settled[[item["row"] for item in rows_in_targets(rows_shards, range(usable), targets, protect)]] = True
    withheld = np.isin(sources, conditions.exclude) & ~settled
    scores, target_rows, unscored = _scores(asked, rows_shards, targets, usable, embed)
    settled |= unscored & ~withheld
    free = ~(settled | withheld)
    if not free.any():
        raise PoolError("the prefilter has no row to rank", pointer="#/prefilter")
    weights = [target.weight for target in targets]
    first = free & np.isin(sources, conditions.must_include)
    ranked: list[tuple[int, float, tuple[int, int]]] = []
    for pick in _ranked(scores, weights, [first, free & ~first]):
        ranked.append(pick)
        if len(ranked) % REPORT_ROWS == 0:
            if on_progress is not None:
                on_progress(len(ranked), usable)
            if should_stop is not None and should_stop():
                raise Stopped("the prefilter was stopped")
    order = np.array([row for row, _, _ in ranked], dtype=np.int64)
    cut = min(len(order), asked.count(usable))
    extra, groups = _for_floors(config, rows_shards, order, cut, usable)
    chosen = np.zeros(usable, dtype=bool)
    chosen[order[:cut]] = chosen[extra] = True
    _check_left(config, int(chosen.sum()), usable, groups, chosen)
    kept = np.flatnonzero(chosen | settled)
    starts = np.cumsum([0, *(score.shape[1] for score in scores)])
    return Prefiltered(
        order=order,
        scores=np.array([score for _, score, _ in ranked], dtype=np.float64),
        judges=np.array([starts[task] + turn for _, _, (task, turn) in ranked], dtype=np.int64),
        kept=kept.astype(np.int64),
        withheld=np.flatnonzero(withheld).astype(np.int64),
        target_rows=target_rows,
        cut=cut,
        result={
            "method": asked.method,
            "keep": asked.keep,
            "ranked": len(order),
            "kept": int(chosen.sum()),
            "measured": len(kept),
            **({} if groups is None else {"emptied": _emptied(groups, chosen, free)}),
        },
    )


def write_prefiltered(path: Path, found: Prefiltered, fingerprint: str) -> str:
    """Write what a prefilter found; the same ranking gives the same bytes.

    Args:
        path: Where to; the file is whole or not there.
        found: What it found.
        fingerprint: Of everything that decided it.

    Returns:
        Sha256 (hex) of the file.
    """
    tensors = {name: getattr(found, name) for name in ("order", "scores", "judges", "kept", "withheld")}
    header = {
        "fingerprint": fingerprint,
        "target_rows": [list(row) for row in found.target_rows],
        "cut": found.cut,
        "result": dict(found.result),
    }
    return write_tensors(path, tensors, {"format": PREFILTER_FORMAT, "header": header})


def read_prefiltered(path: Path, fingerprint: str, sha256: str | None = None) -> Prefiltered:
    """Read what a prefilter found and check every byte of it.

    Args:
        path: The file.
        fingerprint: What it must have been made from.
        sha256: Digest (hex) the file must have, where it is known.

    Raises:
        CorruptShardError: A file that is missing, cut short or changed.
        MismatchedShardError: A sound file of another prefilter or format.
    """  # ruff: ignore[docstring-extraneous-exception] - the first is raised by read_some_tensors()
    tensors, about, found = read_some_tensors(path, sha256)
    header = about["header"]
    if about["format"] != PREFILTER_FORMAT or header.get("fingerprint") != fingerprint:
        raise MismatchedShardError(f"{path.name} holds another prefilter")
    rows = [(str(name), int(row)) for name, row in header["target_rows"]]
    return Prefiltered(**tensors, target_rows=rows, cut=header["cut"], result=header["result"], sha256=found)


def _scores(
    asked: Prefilter, rows_shards: Sequence[Path], targets: Sequence[TargetRows], usable: int, embed: Embed
) -> tuple[list[torch.Tensor], list[tuple[str, int]], np.ndarray]:
    """For each target the score of every row for each of its rows, shape (n, m); those rows; and rows without scores.

    Raises:
        PoolError: A target has no embedding.
    """
    if asked.method == "bm25":
        queries = [target.texts() for target in targets]
        scores = bm25_scores(read_texts(rows_shards), [text for part in queries for text in part])
        named = [(target.name, row) for target in targets for row in target.source_rows]
        return list(torch.split(scores, [len(part) for part in queries], dim=1)), named, np.zeros(usable, dtype=bool)
    pool = embed(rows_shards)
    candidates = GradientMatrix(pool.features, pool.stored)
    unscored = ~np.isin(np.arange(usable), pool.positions)
    found, named = [], []
    for number, target in enumerate(targets):
        own = embed(target.rows_shards)
        place_of = {position: place for place, position in enumerate(own.positions.tolist())}
        there = [
            (place_of[row], source)
            for row, source in zip(target.members, target.source_rows, strict=True)
            if row in place_of
        ]
        if not there:
            raise PoolError(f"no row of the target {target.name!r} has an embedding", pointer=f"#/targets/{number}")
        rows = GradientMatrix(own.features, own.stored).take(torch.tensor([place for place, _ in there]))
        scores = torch.full((usable, len(there)), -torch.inf, dtype=torch.float64)
        scores[torch.from_numpy(pool.positions)] = cosines(candidates, rows)
        found.append(scores)
        named += [(target.name, source) for _, source in there]
    return found, named, unscored


def _ranked(
    scores: Sequence[torch.Tensor], weights: Sequence[float], waves: Sequence[np.ndarray]
) -> Iterator[tuple[int, float, tuple[int, int]]]:
    """Every row of the waves, one wave after the other, as the target rows pick them in turn.

    Yields:
        Row, score, and the task and the row of it that picked it.
    """
    judges = RoundRobin(scores, read_shares(len(weights), weights))
    for wave in waves:
        allowed = torch.from_numpy(wave.copy())
        while (chosen := judges.choose(allowed)) is not None:
            judges.take(chosen[0])
            allowed[chosen[0]] = False
            yield *chosen, (judges.task, judges.turn)


def _for_floors(
    config: RunConfig, rows_shards: Sequence[Path], order: np.ndarray, cut: int, usable: int
) -> tuple[list[int], list[str] | None]:
    """Rows behind the cut that the floors of the quotas need, the best of each group, and the group of every row."""
    quotas = config.selection.quotas
    if quotas is None or quotas.column is None:
        return [], None
    groups = read_groups(rows_shards, quotas.column, range(usable))
    have = Counter(groups[row] for row in order[:cut].tolist())
    extra = []
    for row in order[cut:].tolist():
        if have[groups[row]] < quotas.floors.get(groups[row], 0):
            have[groups[row]] += 1
            extra.append(row)
    return extra, groups


def _check_left(config: RunConfig, left: int, usable: int, groups: Sequence[str] | None, chosen: np.ndarray) -> None:
    """Refuse a prefilter that leaves too little for the budget or the caps.

    Raises:
        BudgetError: It does.
    """
    selection = config.selection
    count = selection.budget.resolve_count(usable)
    wanted = None if count is None else min(count, selection.max_count or count)
    if wanted is not None and left < wanted:
        raise BudgetError(f"the prefilter keeps {left} rows, {wanted} are asked for", pointer="#/prefilter/keep")
    if groups is not None:
        try:
            check_quotas(config, Counter(groups[row] for row in np.flatnonzero(chosen).tolist()))
        except BudgetError as error:
            raise BudgetError(f"after the prefilter, {error.detail}", pointer="#/prefilter/keep") from error


def _emptied(groups: Sequence[str], chosen: np.ndarray, free: np.ndarray) -> list[str]:
    """Groups of the pool of which the prefilter keeps no row."""
    there = {groups[row] for row in np.flatnonzero(free).tolist()}
    return sorted(there - {groups[row] for row in np.flatnonzero(chosen).tolist()})
