"""The constraints of a selection: rows of the source that it must hold, or must not, as candidates of its pool."""

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
from spice_select.results.result_folder import stated_dependencies
from spice_select.results.run_metadata import BaseSelectionFacts

MOST_NAMED = 20


@dataclass(frozen=True)
class ResolvedConstraints:
    """The constraints of a selection as candidates of its pool.

    Attributes:
        must_include: Candidates that are selected before any other.
        exclude: Candidates that are never selected.
        base_selection: Gradients of an earlier selection that this one adds to, float32 of shape (m, d), or None.
        owned: Candidates in that selection, which are among those excluded.
    """

    must_include: list[int]
    exclude: list[int]
    base_selection: NDArray[np.float32] | None
    owned: Sequence[int] = ()

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for ``select`` and its random baseline."""
        return {"must_include": self.must_include, "exclude": self.exclude, "given": self.base_selection}


def resolve(
    conditions: Conditions, pool: Pool, rows_shards: Sequence[Path], base_rows: Sequence[int] = ()
) -> ResolvedConstraints:
    """Look up the rows of the constraints in the pool.

    Args:
        conditions: Rows by their number in the source.
        pool: The pool.
        rows_shards: The ``rows-*.parquet`` of the ingest, in order.
        base_rows: Rows of the source in the base selection; none of them is selected again.

    Returns:
        The constraints; excluded rows that are no candidates need no excluding.

    Raises:
        BudgetError: Nothing is left to select from.
        PoolError: A row that must be included, or is in the base selection, is no candidate.
    """
    if not (conditions.must_include or conditions.exclude or base_rows):
        return ResolvedConstraints([], [], None)
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
    if not candidate_of.keys() >= set(base_rows):
        raise PoolError("rows that are owned already are no candidates of this pool", pointer="#/given_job")
    base = sorted({candidate_of[row] for row in base_rows})
    exclude = sorted({candidate_of[row] for row in conditions.exclude if row in candidate_of} | set(base))
    must_include = sorted({candidate_of[row] for row in conditions.must_include})
    both = set(must_include) & set(base)
    if both:
        rows = sorted(int(sources[pool.positions[row]]) for row in both)
        raise PoolError(f"rows {rows[:MOST_NAMED]} must be included and are owned already", pointer="#/must_include")
    if len(exclude) == len(pool.positions):
        raise BudgetError("every candidate is excluded or owned", pointer="#/exclude")
    owned = np.array(pool.features[np.array(base)]) if base else None
    return ResolvedConstraints(must_include, exclude, owned, base)


def read_base_selection(folder: Path, fingerprint: str) -> tuple[list[int], BaseSelectionFacts]:
    """The selection in a result folder, as the base of another.

    Args:
        folder: A folder with the files of a result.
        fingerprint: Of the gradients that it must have been made on.

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


def read_base_selections(folders: Sequence[Path], fingerprint: str) -> tuple[list[int], list[BaseSelectionFacts]]:
    """The selections in result folders, as the base of another.

    Args:
        folders: Folders with the files of a result each, with those that they add to among them.
        fingerprint: Of the gradients that they must have been made on.

    Returns:
        Their rows by their number in the source, and what to say about each.

    Raises:
        ConfigError: No result, one by other gradients, or one that adds to a result that is not among them.
    """
    read = [read_base_selection(folder, fingerprint) for folder in folders]
    known = {facts.ranking_sha256 for _, facts in read}
    for folder in folders:
        for earlier in stated_dependencies(folder, "given-selection"):
            if earlier["digest"]["sha256"] not in known:
                raise ConfigError(
                    f"the result in {folder} adds to {earlier['uri']}, whose rows are owned too: name it as well",
                    pointer="#/given",
                )
    return [row for rows, _ in read for row in rows], [facts for _, facts in read]


def read_source_rows(rows_shards: Sequence[Path]) -> NDArray[np.int64]:
    """Row in the source of every usable row, int64 of shape (number of usable rows,).

    Args:
        rows_shards: The ``rows-*.parquet`` of the ingest, in order.
    """
    columns = [pq.read_table(path, columns=["source_row"]).column(0).to_numpy() for path in rows_shards]
    return np.concatenate(columns).astype(np.int64)
