"""Why a row was selected, or not: what it is near to, in the space that the selection compared rows in.

Each row of the pool meets the rows of the targets and the picks, never the rest of the pool; it is read in blocks, so
that memory does not grow with its size, apart from a few numbers for each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from spice_select.config import SelectionConfig
from spice_select.selection.certificate import quadratic_forms
from spice_select.selection.conflict import conflict
from spice_select.selection.gradient_matrix import GradientMatrix, Gradients
from spice_select.selection.result import Selection

NEAREST = 3
"""Target rows that are named for each row of the pool."""
PICK_BYTES = 256 * 2**20
"""Picks that are compared with the pool in one pass, bytes in float64; does not affect results."""
MOST_OPERATIONS = 5e12
"""Multiply-adds up to which rows are compared with the picks: a few minutes on two cores."""
SAME_COSINE = 1e-12
"""Cosines that differ by less are equal: the earlier pick, or the first of the target rows, is named."""


@dataclass(frozen=True)
class PoolEvidence:
    """What is known about every candidate after a selection; arrays have one entry for each candidate, in pool order.

    Attributes:
        tasks: The target that a row was picked for; of the others, the one it is most relevant for. -1 without targets.
        relevances: g . m / |m| with the mean m of that target's rows; None without targets.
        relevance_ranks: Place by relevance for that target among the rows that could be selected, from 1; 0 for rows
            that could not.
        conflicts: With that mean; without targets with the mean of the picks.
        gains: What a row would add to all picks, nats. None where that is not known.
        target_rows: The nearest target rows, the nearest first, counted through all targets; shape (n, <= 3).
        target_cosines: Cosines with them, of the same shape.
        nearest_picks: The nearest pick by its place in pick order, from 0, for a pick the nearest earlier one; -1 where
            there is none. None where there were too many to compare.
        pick_cosines: Cosines with them.
        available: Rows that could be selected.
    """

    tasks: NDArray[np.int64]
    relevances: NDArray[np.float64] | None
    relevance_ranks: NDArray[np.int64]
    conflicts: NDArray[np.float64]
    gains: NDArray[np.float64] | None
    target_rows: NDArray[np.int64]
    target_cosines: NDArray[np.float64]
    nearest_picks: NDArray[np.int64] | None
    pick_cosines: NDArray[np.float64]
    available: int


def row_evidence(
    candidates: GradientMatrix,
    config: SelectionConfig,
    selection: Selection,
    *,
    targets: Sequence[Gradients] = (),
    given: Gradients | None = None,
    exclude: Sequence[int] = (),
) -> PoolEvidence:
    """Compare every candidate with the target rows and the picks.

    Args:
        candidates: The pool, as it was selected from.
        config: How it was selected from.
        selection: The selection.
        targets: Gradients of the rows of each target, shape (m, d), as they were compared with.
        given: Gradients already owned, shape (m, d).
        exclude: Rows that could not be selected.
    """
    rows = [_rows(target).to(candidates.device) for target in targets]
    picks = torch.tensor(selection.indices, dtype=torch.int64)
    available = np.ones(candidates.size, dtype=bool)
    available[list(exclude)] = False
    relevances, target_rows, target_cosines = _compared_with_targets(candidates, rows)
    owned = None if given is None else _rows(given).to(candidates.device)
    nearest, cosines = _compared_with_picks(candidates, picks)
    gains = _gains(candidates, config, picks, owned)
    places = picks.numpy()
    tasks, ranks = np.full(candidates.size, -1), np.zeros(candidates.size, dtype=np.int64)
    norms = candidates.squared_norms.cpu()
    if rows:
        tasks = relevances.argmax(axis=0)
        tasks[places] = selection.tasks if selection.tasks is not None else tasks[places]
        ranks = _ranks(relevances, tasks, available)
        relevance = relevances[tasks, np.arange(candidates.size)]
        conflicts = conflict(torch.from_numpy(relevance), norms, 1.0).numpy()
    else:
        members = candidates.take(picks) if owned is None else torch.cat([owned, candidates.take(picks)])
        mean = members.sum(dim=0) / max(1, len(members))
        conflicts = conflict(candidates.products(mean).cpu(), norms, float(mean.norm())).numpy()
    return PoolEvidence(
        tasks=tasks,
        relevances=relevance if rows else None,
        relevance_ranks=ranks,
        conflicts=conflicts,
        gains=gains,
        target_rows=target_rows,
        target_cosines=target_cosines,
        nearest_picks=nearest,
        pick_cosines=cosines,
        available=int(available.sum()),
    )


def _compared_with_targets(
    candidates: GradientMatrix, targets: Sequence[torch.Tensor]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Relevance for each target, shape (tasks, n), and the nearest target rows with their cosines, shape (n, <= 3)."""
    count = min(NEAREST, sum(map(len, targets)))
    relevances = np.zeros((len(targets), candidates.size))
    found = np.zeros((candidates.size, count), dtype=np.int64)
    cosines = np.zeros((candidates.size, count))
    if not targets:
        return relevances, found, cosines
    means = torch.stack([rows.mean(dim=0) for rows in targets])
    directions = _unit(means)  # rows that cancel make nothing relevant, where the method takes them at all
    unit = _unit(torch.cat(list(targets)))
    for start, block in candidates.blocks():
        part = slice(start, start + len(block))
        relevances[:, part] = (directions @ block.T).cpu().numpy()
        near = (_unit(block) @ unit.T).clamp_(-1.0, 1.0)
        # Rounded, so that equal target rows keep their order.
        order = (near / SAME_COSINE).round_().argsort(dim=1, descending=True, stable=True)[:, :count]
        found[part] = order.cpu().numpy()
        cosines[part] = near.gather(1, order).cpu().numpy()
    return relevances, found, cosines


def _ranks(
    relevances: NDArray[np.float64], tasks: NDArray[np.int64], available: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Place of each row among all available ones by relevance for its own target, from 1; 0 for the others."""
    ranks = np.zeros(len(tasks), dtype=np.int64)
    for task, values in enumerate(relevances):
        mine = available & (tasks == task)
        ascending = np.sort(values[available])
        ranks[mine] = 1 + len(ascending) - np.searchsorted(ascending, values[mine], side="right")
    return ranks


def _compared_with_picks(
    candidates: GradientMatrix, picks: torch.Tensor
) -> tuple[NDArray[np.int64] | None, NDArray[np.float64]]:
    """The nearest pick of each row by its place, for a pick the nearest earlier one, and the cosine with it."""
    size, width = candidates.size, candidates.dimension
    if float(size) * len(picks) * width > MOST_OPERATIONS:
        return None, np.zeros(size)
    places = torch.full((size,), len(picks), dtype=torch.int64)
    places[picks] = torch.arange(len(picks))
    best, nearest = torch.full((size,), -2.0, dtype=torch.float64), torch.full((size,), -1, dtype=torch.int64)
    step = max(1, PICK_BYTES // (8 * width))
    for first in range(0, len(picks), step):
        chosen = _unit(candidates.take(picks[first : first + step])).T
        numbers = torch.arange(first, first + chosen.shape[1])
        for start, block in candidates.blocks():
            part = slice(start, start + len(block))
            near = (_unit(block) @ chosen).clamp_(-1.0, 1.0).cpu()
            near.masked_fill_(numbers >= places[part, None], -2.0)
            top = near.max(dim=1).values
            # The first of those that are equal: argmax of numbers that differ by rounding would name any.
            place = (near >= top[:, None] - SAME_COSINE).to(torch.uint8).argmax(dim=1)
            nearer = top > torch.where(best[part] > -2.0, best[part] + SAME_COSINE, -2.0)
            best[part] = torch.where(nearer, top, best[part])
            nearest[part] = torch.where(nearer, place + first, nearest[part])
    return nearest.numpy(), torch.where(nearest >= 0, best, 0.0).numpy()


def _gains(
    candidates: GradientMatrix, config: SelectionConfig, picks: torch.Tensor, given: torch.Tensor | None
) -> NDArray[np.float64] | None:
    """What each row would add to all picks, nats; None where it is too costly, or gains were of another kind."""
    if config.information != "logdet":
        return None
    chosen = candidates.take(picks)
    forms = quadratic_forms(candidates, chosen if given is None else torch.cat([given, chosen]), config.alpha)
    return None if forms is None else torch.log1p(config.alpha * forms).cpu().numpy()


def _unit(rows: torch.Tensor) -> torch.Tensor:
    """Rows of length one; zero rows stay zero."""
    return torch.nn.functional.normalize(rows, dim=1, eps=1e-300)


def _rows(gradients: Gradients) -> torch.Tensor:
    matrix = GradientMatrix(gradients)
    return matrix.take(torch.arange(matrix.size))
