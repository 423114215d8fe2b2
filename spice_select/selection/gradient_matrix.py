"""The candidates: the matrix of per-sample gradients, checked once and read in float64 blocks.

Whatever the input is (numpy, a memory map, torch on any device), what decides is computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import copy
from typing import TypeAlias

import numpy as np
import torch

from spice_select.arrays import StackedArrays, StoreDtype
from spice_select.errors import EmptyPoolError, NonFiniteGradientError, PoolError
from spice_select.selection.lowrank import CHUNK, SINGLE_RANGE

Gradients: TypeAlias = "torch.Tensor | np.ndarray[tuple[int, ...], np.dtype[np.generic]] | StackedArrays"

BLOCK_BYTES = 8 * 2**20
"""Size of one float64 block of rows, bytes; does not affect results."""
SINGLE_BYTES = 64 * 2**20
"""Size of one float32 block of rows, bytes; does not affect results."""
PIECE = (512, 1024)
"""Rows and features of a piece of the pool; does not affect results beyond rounding."""
SAME_LENGTH = 1e-12
"""Relative difference of squared lengths up to which two rows may be equal: summing in another order changes less."""
DOUBLE_TIE = 1e-12
"""Relative difference up to which scores of float64 rows are a tie: rounding of the arithmetic stays below it."""
SINGLE_TIE = 1e-5
"""The same for float32 rows: batch size and threads change a gradient by up to 6e-6 of its length, scores by 2.5e-6."""
NAMED_ROWS = 20
"""How many bad rows an error names."""


class GradientMatrix:
    """The gradients to choose from, one row a sample.

    Args:
        gradients: Matrix of shape (n, d), any real dtype: torch on any device, numpy, or arrays stacked by rows (memory
            maps stay on disk).
        stored: Type in which the rows were kept, where that was a coarser one than they have here.

    Attributes:
        size: Number of samples, n.
        dimension: Length of a gradient, d.
        device: Where the float64 blocks live: the device of the input.
        squared_norms: |g|^2 of every row, float64 of shape (n,).
        tie: Scores closer than this share of their terms are a tie, because the rows are known no better.

    Raises:
        EmptyPoolError: There is no row.
        PoolError: The input is not a matrix of real numbers with at least one column.
        NonFiniteGradientError: A row holds NaN or infinity, or its squared length does not fit float64.
    """

    def __init__(self, gradients: Gradients, stored: StoreDtype | None = None) -> None:
        if not isinstance(gradients, torch.Tensor | StackedArrays):
            gradients = np.asanyarray(gradients)
        if gradients.ndim != 2 or gradients.shape[1] == 0:
            raise PoolError(f"gradients must have the shape (samples, features), not {tuple(gradients.shape)}")
        if gradients.shape[0] == 0:
            raise EmptyPoolError("the pool holds no sample")
        is_real = not gradients.is_complex() if isinstance(gradients, torch.Tensor) else gradients.dtype.kind in "fiu"
        if not is_real:
            raise PoolError(f"gradients must be real numbers, not {gradients.dtype}")
        self._source = gradients.detach() if isinstance(gradients, torch.Tensor) else gradients
        self.device = gradients.device if isinstance(gradients, torch.Tensor) else torch.device("cpu")
        self.size, self.dimension = int(gradients.shape[0]), int(gradients.shape[1])
        self.tie = max(tie_of(str(kind), self.dimension) for kind in (gradients.dtype, stored or "float64"))
        self.block_rows = max(1, min(self.size, BLOCK_BYTES // (8 * self.dimension)))
        self._scales: torch.Tensor | None = None
        self._transform: Callable[[torch.Tensor], torch.Tensor] | None = None
        self.squared_norms = self._sum_squares()
        self._require_finite()

    def subset(self, rows: torch.Tensor) -> GradientMatrix:
        """Some of the rows as a pool of their own, in a copy: to the bit ``GradientMatrix`` of these rows alone.

        Args:
            rows: Row numbers, int64 of shape (m,), at least one.
        """
        part = copy(self)
        source = self._source
        there = rows.to(self.device)
        part._source = source.index_select(0, there) if isinstance(source, torch.Tensor) else source[rows.cpu().numpy()]
        part.size, part.block_rows = len(rows), min(len(rows), self.block_rows)
        part._scales = None if self._scales is None else self._scales[there]
        part.squared_norms = self.squared_norms[there] if self._scales is not None else part._sum_squares()
        return part

    def whitened(self, transform: Callable[[torch.Tensor], torch.Tensor]) -> GradientMatrix:
        """The same rows, each transformed whenever it is read and rounded to float32. Shares the memory.

        Args:
            transform: Of float64 rows of shape (m, d), each for itself.
        """
        view = copy(self)
        view._transform = transform
        view.tie = max(self.tie, SINGLE_TIE)
        view.squared_norms = view._sum_squares()
        return view

    def normalized(self) -> GradientMatrix:
        """The same rows scaled to length one; zero rows stay zero. Shares the memory."""
        view = copy(self)
        lengths = self.squared_norms.sqrt()
        view._scales = torch.where(lengths > 0, 1.0 / lengths, 0.0)
        view.squared_norms = (lengths > 0).to(torch.float64)
        return view

    def blocks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Every row once, as (first row, float64 block of shape (m, d))."""
        for start in range(0, self.size, self.block_rows):
            block = self._float64(self._source[start : start + self.block_rows])
            yield start, block if self._scales is None else block * self._scales[start : start + len(block), None]

    def products(self, vector: torch.Tensor) -> torch.Tensor:
        """Inner product of every row with a vector, float64 of shape (n,) on the candidates' device.

        Args:
            vector: float64 of shape (d,), on the candidates' device.
        """
        return torch.cat([block @ vector for _, block in self.blocks()])

    def times(self, matrix: torch.Tensor) -> torch.Tensor:
        """Product of every row with a matrix, float64 of shape (n, r) on the candidates' device.

        Rows in memory are taken in pieces of some rows by some features, so that neither they nor their part of the
        matrix leave the caches of a processor.

        Args:
            matrix: float64 of shape (d, r), on the candidates' device.
        """
        source = self._source
        if not isinstance(source, torch.Tensor) or self._scales is not None or self._transform is not None:
            return torch.cat([block @ matrix for _, block in self.blocks()])
        result = torch.zeros(self.size, matrix.shape[1], dtype=torch.float64, device=self.device)
        for start in range(0, self.size, PIECE[0]):
            part = slice(start, start + PIECE[0])
            for first in range(0, self.dimension, PIECE[1]):
                features = slice(first, first + PIECE[1])
                result[part].addmm_(source[part, features].to(torch.float64), matrix[features])
        return result

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        """The named rows as float64 of shape (m, d).

        Args:
            rows: Row numbers, int64 of shape (m,), on any device.
        """
        if isinstance(self._source, torch.Tensor):
            taken = self._float64(self._source.index_select(0, rows.to(self.device)))
        else:
            taken = self._float64(self._source[rows.cpu().numpy()])
        return taken if self._scales is None else taken * self._scales[rows.to(self.device), None]

    @property
    def in_single_range(self) -> bool:
        """Whether products in float32 neither overflow nor vanish, and torch takes them with all digits."""
        low, high = SINGLE_RANGE
        norms = self.squared_norms
        in_range = bool(((norms <= 0.0) | ((norms >= low) & (norms <= high))).all())
        return in_range and torch.get_float32_matmul_precision() == "highest"

    def single_products(self, others: torch.Tensor) -> torch.Tensor:
        """Products of other gradients with every row, off by at most ``single_error`` times the lengths.

        Args:
            others: float64 of shape (c, d), on the candidates' device.

        Returns:
            float32 of shape (c, n), on the candidates' device.
        """
        columns = others.to(torch.float32)
        result = torch.empty(len(others), self.size, dtype=torch.float32, device=self.device)
        step = max(1, SINGLE_BYTES // (4 * self.dimension))
        for start in range(0, self.size, step):
            rows = torch.arange(start, min(start + step, self.size))
            whole = isinstance(self._source, torch.Tensor) and self._scales is None and self._transform is None
            block = self._source[start : start + step].to(torch.float32) if whole else self.take_single(rows)  # type: ignore[union-attr]
            part = result[:, start : start + step]
            for first in range(0, self.dimension, CHUNK):
                features = slice(first, first + CHUNK)
                products = columns[:, features] @ block[:, features].T
                part.copy_(products) if first == 0 else part.add_(products)
        return result

    def single(self) -> torch.Tensor:
        """All rows rounded to float32, shape (n, d), on the candidates' device; shares the memory where it can."""
        if isinstance(self._source, torch.Tensor) and self._scales is None and self._transform is None:
            return self._source.to(torch.float32)
        result = torch.empty(self.size, self.dimension, dtype=torch.float32, device=self.device)
        for start in range(0, self.size, self.block_rows):
            rows = torch.arange(start, min(start + self.block_rows, self.size))
            result[start : start + len(rows)] = self.take_single(rows)
        return result

    def take_single(self, rows: torch.Tensor) -> torch.Tensor:
        """The named rows rounded to float32, shape (m, d); a row outside its range comes as zero or infinity.

        Args:
            rows: Row numbers, int64 of shape (m,), on any device.
        """
        if self._transform is not None:
            return self.take(rows).to(torch.float32)
        if isinstance(self._source, torch.Tensor):
            taken = self._source.index_select(0, rows.to(self.device)).to(torch.float32)
        else:
            taken = torch.from_numpy(np.array(self._source[rows.cpu().numpy()], dtype=np.float32, order="C"))
        return taken if self._scales is None else taken * self._scales[rows.to(self.device), None].to(torch.float32)

    def next_copies(self, keys: torch.Tensor) -> torch.Tensor:
        """For every row the next row with bitwise the same gradient and the same key, or -1.

        Args:
            keys: A number for everything else that tells two rows apart (their cost, their group), int64 of shape (n,).

        Returns:
            int64 of shape (n,) on the CPU.
        """
        following = torch.full((self.size,), -1, dtype=torch.int64)
        suspects = self._with_a_twin_in_length()
        pairs = torch.stack([self._digests(suspects), keys.cpu()[suspects]], dim=1)
        _, group, counts = torch.unique(pairs, dim=0, return_inverse=True, return_counts=True)
        repeated = torch.nonzero(counts[group] > 1).flatten()
        repeated = repeated[torch.argsort(group[repeated], stable=True)]
        is_same = group[repeated[:-1]] == group[repeated[1:]]
        first, second = suspects[repeated[:-1][is_same]], suspects[repeated[1:][is_same]]
        for start in range(0, len(first), self.block_rows):
            part = slice(start, start + self.block_rows)
            equal = (self.take(first[part]) == self.take(second[part])).all(dim=1).cpu()
            following[first[part][equal]] = second[part][equal]
        return following

    def _with_a_twin_in_length(self) -> torch.Tensor:
        """Rows that are as long as another, to rounding: only these can have a copy; ascending, int64 of shape (m,)."""
        ordered, order = self.squared_norms.cpu().sort(stable=True)
        close = ordered[1:] - ordered[:-1] <= SAME_LENGTH * ordered[1:]
        return order[torch.cat([close, close[:0].new_zeros(1)]) | torch.cat([close.new_zeros(1), close])].sort().values

    def _digests(self, rows: torch.Tensor) -> torch.Tensor:
        """A number for each row that depends on its bits alone, int64 of shape (m,) on the CPU."""
        generator = torch.Generator().manual_seed(0)
        factors = torch.randint(-(2**62), 2**62, (self.dimension,), generator=generator, dtype=torch.int64)
        factors = factors.to(self.device)
        # Integer sums wrap around without rounding, so equal rows have equal numbers wherever they stand.
        parts = [
            ((self.take(part) + 0.0).view(torch.int64) * factors).sum(dim=1).cpu()
            for part in torch.split(rows, self.block_rows)
            if len(part) > 0
        ]
        return torch.cat([rows[:0], *parts])

    def _float64(self, rows: Gradients) -> torch.Tensor:
        # torch refuses read-only arrays with a warning, so the copy that float64 needs anyway is made by numpy.
        if isinstance(rows, torch.Tensor):
            wide = rows.to(torch.float64)
        else:
            wide = torch.from_numpy(np.array(rows, dtype=np.float64, order="C"))
        return wide if self._transform is None else self._transform(wide).to(torch.float32).to(torch.float64)

    def _sum_squares(self) -> torch.Tensor:
        sums = torch.empty(self.size, dtype=torch.float64, device=self.device)
        for start, block in self.blocks():
            torch.sum(block * block, dim=1, out=sums[start : start + len(block)])
        return sums

    def _require_finite(self) -> None:
        bad = torch.nonzero(~torch.isfinite(self.squared_norms)).flatten()
        if len(bad) == 0:
            return
        named = [int(row) for row in bad[:NAMED_ROWS]]
        more = f" and {len(bad) - len(named)} more" if len(bad) > len(named) else ""
        raise NonFiniteGradientError(
            f"{len(bad)} of {self.size} gradients hold NaN, infinity or numbers too large to square: "
            f"rows {', '.join(map(str, named))}{more}",
            errors=[{"detail": "not a finite gradient", "pointer": f"#/{row}"} for row in named],
        )


def tie_of(dtype: str, dimension: int) -> float:
    """Share of their terms by which two scores must differ to be told apart.

    A product of rows stored in 16 bits carries d roundings that fall either way, so that their sum grows like sqrt(d)
    and its share of the product falls like 1 / sqrt(d); the tolerance is eight times that,
    because the squared length of a gradient comes from a few of its numbers.

    Args:
        dtype: Name of the type that rows are stored in.
        dimension: Length of a row, d.
    """
    rounding = {"bfloat16": 2.0**-8, "float16": 2.0**-11}.get(dtype.removeprefix("torch."))
    if rounding is not None:
        return max(SINGLE_TIE, 8.0 * rounding / math.sqrt(dimension))
    return SINGLE_TIE if dtype.endswith("float32") else DOUBLE_TIE
