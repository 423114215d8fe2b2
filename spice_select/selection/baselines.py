"""Other ways to choose from the same gradients: at random, or in the order of one number per sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spice_select.config import SelectionConfig
from spice_select.errors import ConfigError, PoolError
from spice_select.selection.baseline_runner import BLOCK
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.scoring import TIE

LENGTH_BINS = 32
"""Bins of equal mass in the token histogram that ``length_matched`` keeps."""


STRIDE = 4 * BLOCK
"""Rows of an order that are looked at together; does not affect results."""


class Ranking:
    """Chooses rows in an order fixed beforehand.

    Args:
        order: Rows, int64 of shape (m,).
        size: Number of rows in the pool, n.
        values: What each row of the pool is ranked by, float64 of shape (n,); None for a random order.
    """

    def __init__(self, order: torch.Tensor, size: int, values: torch.Tensor | None = None) -> None:
        self._order, self._values = order, values
        self._taken = torch.zeros(size, dtype=torch.bool)
        self._position = 0

    def choose(self, allowed: torch.Tensor) -> tuple[int, float | None] | None:
        """The next allowed row and its value, or None when there is no row.

        Args:
            allowed: Rows that may be chosen, bool of shape (n,) on the CPU.
        """
        ahead = self.ahead(allowed)
        if len(ahead) == 0:
            return None
        return int(ahead[0]), None if self._values is None else float(self._values[ahead[0]])

    def ahead(self, allowed: torch.Tensor) -> torch.Tensor:
        """The next allowed rows.

        Args:
            allowed: Rows that may be chosen, bool of shape (n,) on the CPU.
        """
        for start in range(self._position, len(self._order), STRIDE):
            rows = self._order[start : start + STRIDE]
            rows = rows[allowed[rows]]
            if len(rows) > 0:
                return rows[:BLOCK]
        return self._order[:0]

    def take(self, row: int) -> None:
        """Step over rows that have joined the set.

        Args:
            row: The row that joined.
        """
        self._taken[row] = True
        while self._position < len(self._order) and bool(self._taken[self._order[self._position]]):
            self._position += 1


def random_order(size: int, seed: int) -> torch.Tensor:
    """All rows in a random order, int64 of shape (size,), the same on every machine.

    Args:
        size: Number of rows, n.
        seed: Seed of the draw.
    """
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))


def stratified_order(codes: torch.Tensor, seed: int) -> torch.Tensor:
    """A random order in which every beginning holds each group by its share of the pool, but for a sample or so.

    The r-th of m samples of a group, in random order, stands at (r - 1/2) / m of the whole.

    Args:
        codes: Group of every row, int64 of shape (n,).
        seed: Seed of the draw.
    """
    shuffled = random_order(len(codes), seed)
    by_group = shuffled[codes[shuffled].argsort(stable=True)]
    sizes = torch.bincount(codes)
    starts = sizes.cumsum(0) - sizes
    group = codes[by_group]
    places = (torch.arange(len(codes)) - starts[group] + 0.5) / sizes[group]
    return by_group[places.argsort(stable=True)]


def descending_order(values: torch.Tensor) -> torch.Tensor:
    """All rows, the largest value first, ties (to rounding) to the lower row; int64 of shape (n,).

    Args:
        values: float64 of shape (n,).
    """
    ordered, order = values.sort(descending=True, stable=True)
    steps = ordered[:-1] - ordered[1:] > TIE * ordered[:-1].abs()
    tie = torch.cat([torch.zeros(1, dtype=torch.int64), steps.cumsum(0)])
    by_row = order.argsort(stable=True)
    return order[by_row[tie[by_row].argsort(stable=True)]]


def length_matched_order(costs: torch.Tensor, model: Sequence[int], seed: int) -> torch.Tensor:
    """Random rows such that every beginning has the token histogram of the same beginning of a model selection.

    Args:
        costs: Tokens of every row, float64 of shape (n,).
        model: Rows of the selection whose lengths are matched.
        seed: Seed of the draw.

    Returns:
        int64 of shape (len(model),): for each row of the model one drawn at random from its bin of length.
    """
    edges = torch.quantile(costs, torch.linspace(0, 1, LENGTH_BINS + 1, dtype=torch.float64)[1:-1])
    bins = torch.bucketize(costs, edges)
    waiting: dict[int, list[int]] = {}
    for row in random_order(len(costs), seed).tolist():
        waiting.setdefault(int(bins[row]), []).append(row)
    return torch.tensor([waiting[int(bins[row])].pop() for row in model], dtype=torch.int64)


def check_target_rows(candidates: GradientMatrix, targets: torch.Tensor) -> None:
    """Refuse target rows that a pool cannot be compared with.

    Args:
        candidates: The pool.
        targets: Target rows, float64 of shape (m, d).

    Raises:
        PoolError: They have no row, another dimension, or numbers that are not finite.
    """
    if targets.ndim != 2 or len(targets) == 0 or targets.shape[1] != candidates.dimension:
        raise PoolError(
            f"targets must have the shape (samples, {candidates.dimension}) like the pool, not {tuple(targets.shape)}"
        )
    if not bool(torch.isfinite(targets).all()):
        raise PoolError("targets hold NaN or infinity")


def similarity(candidates: GradientMatrix, targets: torch.Tensor) -> torch.Tensor:
    """Cosine of every row with the mean direction of the target samples (LESS), float64 of shape (n,) on the CPU.

    Args:
        candidates: The pool.
        targets: Gradients of the target samples by the same proxy, float64 of shape (m, d).

    Raises:
        PoolError: The targets have no row, another dimension, or numbers that are not finite.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by check_target_rows()
    check_target_rows(candidates, targets)
    mean = torch.nn.functional.normalize(targets, dim=1).mean(dim=0)
    lengths = candidates.squared_norms.sqrt() * mean.norm()
    return torch.where(lengths > 0, candidates.products(mean) / lengths, 0.0).cpu()


def gains_alone(squared_norms: torch.Tensor, config: SelectionConfig) -> torch.Tensor:
    """Delta_x(empty set) of every row in the configured information, nats, float64 of shape (n,).

    Args:
        squared_norms: |g|^2, float64 of shape (n,).
        config: Settings of the run: information and alpha are used.
    """
    shrink = 1.0 + config.alpha if config.information == "scalar" else 1.0
    return torch.log1p(config.alpha * squared_norms / shrink)


def read_losses(losses: Sequence[float] | torch.Tensor | None, size: int) -> torch.Tensor:
    """Loss of every sample as float64 of shape (n,).

    Args:
        losses: Nats, one for each sample.
        size: Number of samples, n.

    Raises:
        ConfigError: There are none.
        PoolError: Not one finite number for each sample.
    """
    if losses is None:
        raise ConfigError("the method loss needs the loss of every sample", pointer="#/method")
    numbers = torch.as_tensor(losses, dtype=torch.float64, device="cpu")
    if numbers.shape != (size,) or not bool(torch.isfinite(numbers).all()):
        raise PoolError(f"losses must hold one finite number for each of the {size} samples")
    return numbers
