"""Rows of the source that are settled before the choice, as rows of the pool that is chosen from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spice_select.config import Conditions
from spice_select.errors import BudgetError, ConfigError, PoolError
from spice_select.pipeline.pool import Pool
from spice_select.results.run_metadata import BaseSelectionFacts

MOST_NAMED = 20


@dataclass(frozen=True)
class Settled:
    """What is settled before the choice, as arguments of ``select``.

    Attributes:
        must_include: GradientMatrix that are chosen before any other.
        exclude: GradientMatrix that are never chosen.
        given: Gradients already owned, float32 of shape (m, d), or None.
    """

    must_include: list[int]
    exclude: list[int]
    given: NDArray[np.float32] | None

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for ``select`` and its random control."""
        return {"must_include": self.must_include, "exclude": self.exclude, "given": self.given}


def settle(conditions: Conditions, pool: Pool, rows_shards: Sequence[Path], owned: Sequence[int] = ()) -> Settled:
    """Look up the rows of the conditions in the pool.

    Args:
        conditions: Rows by their number in the source.
        pool: The pool.
        rows_shards: The intake's ``rows-*.parquet``, in order.
        owned: Rows of the source that are already owned, of which none is chosen again.

    Returns:
        What is settled; excluded rows that are no candidates need no excluding.

    Raises:
        BudgetError: Nothing is left to choose from.
        PoolError: A row that must be included or is owned, and is no candidate.
    """
    if not (conditions.must_include or conditions.exclude or owned):
        return Settled([], [], None)
    sources = read_source_rows(rows_shards)
    candidate_of = {int(sources[position]): row for row, position in enumerate(pool.positions.tolist())}
    reasons = {int(sources[item["row"]]): item["code"] for item in pool.excluded}
    missing = [
        {"detail": f"row {row} is no candidate: {reasons.get(row, 'no usable row')}", "pointer": f"#/must_include/{i}"}
        for i, row in enumerate(conditions.must_include)
        if row not in candidate_of
    ]
    if missing:
        raise PoolError(f"must_include: {missing[0]['detail']}", errors=missing[:MOST_NAMED])
    if not candidate_of.keys() >= set(owned):
        raise PoolError("rows that are owned already are no candidates of this pool", pointer="#/given_job")
    mine = sorted({candidate_of[row] for row in owned})
    exclude = sorted({candidate_of[row] for row in conditions.exclude if row in candidate_of} | set(mine))
    must_include = sorted({candidate_of[row] for row in conditions.must_include})
    both = set(must_include) & set(mine)
    if both:
        rows = sorted(int(sources[pool.positions[row]]) for row in both)
        raise PoolError(f"rows {rows[:MOST_NAMED]} must be included and are owned already", pointer="#/must_include")
    if len(exclude) == len(pool.positions):
        raise BudgetError("every candidate is excluded or owned", pointer="#/exclude")
    return Settled(must_include, exclude, np.array(pool.features[np.array(mine)]) if mine else None)


def read_base_selection(folder: Path, fingerprint: str) -> tuple[list[int], BaseSelectionFacts]:
    """The choice in a result folder, as one that is owned already.

    Args:
        folder: A folder with the files of a result.
        fingerprint: Of the gradients it must have been chosen by.

    Returns:
        Its rows by their number in the source, and what to say about it.

    Raises:
        ConfigError: No result, or one by other gradients.
    """
    ranking = folder / "ranking.parquet"
    try:
        statement = json.loads((folder / "provenance.intoto.jsonl").read_text(encoding="utf-8"))
        used = statement["predicate"]["buildDefinition"]["internalParameters"]["gradientFingerprint"]
        rows = pq.read_table(ranking, columns=["source_row"]).column(0).to_pylist()
        digest = hashlib.sha256(ranking.read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder} does not hold a result", pointer="#/given") from error
    if used != fingerprint:
        raise ConfigError(
            f"the result in {folder} was chosen from other rows, or by gradients of another proxy or other settings",
            pointer="#/given",
        )
    return rows, BaseSelectionFacts(f"spice:result/{quote(folder.resolve().name, safe='')}", digest)


def read_source_rows(rows_shards: Sequence[Path]) -> NDArray[np.int64]:
    """Row in the source of every usable row, int64 of shape (number of usable rows,).

    Args:
        rows_shards: The intake's ``rows-*.parquet``, in order.
    """
    columns = [pq.read_table(path, columns=["source_row"]).column(0).to_numpy() for path in rows_shards]
    return np.concatenate(columns).astype(np.int64)
