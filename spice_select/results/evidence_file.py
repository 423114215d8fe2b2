"""``evidence.parquet``: the evidence for every usable row of the pool, selected or not, in the order of the source."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from spice_select.results.row_evidence import IN_TURN, NearTargetRow, RowEvidence, SelectionFacts

if TYPE_CHECKING:
    from spice_select.selection.result import Selection
    from spice_select.selection.row_evidence import PoolEvidence

NAME = "evidence.parquet"
FACTS = b"spice_selection"
"""Key of the metadata that holds ``SelectionFacts`` as JSON."""
_NEAR = pa.list_(pa.struct([("target", pa.string()), ("row", pa.int64()), ("cosine", pa.float64())]))
_TYPES: dict[str, pa.DataType] = {
    **dict.fromkeys(
        ("source_row", "rank", "relevance_rank", "picks_above", "tokens", "nearest_pick", "nearest_pick_rank"),
        pa.int64(),
    ),
    **dict.fromkeys(("relevance", "gain", "conflict", "score", "nearest_pick_cosine"), pa.float64()),
    "nearest_targets": _NEAR,
}
EVIDENCE_SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in RowEvidence.model_fields])


@dataclass(frozen=True)
class Evidence:
    """The evidence for the rows of a pool, before it is written.

    Attributes:
        pool: Of every candidate.
        target_rows: Target and row number of each target row, counted through all targets.
        scores: Of every candidate as the next pick; None where the rule has more terms than gain and conflict.
        withheld: Candidates that the job itself kept out, each ``{"row": position, "code", "detail"}``.
        target_rule: What a row is worth for a target; None without targets.
        must_include: How many rows had to be included.
        quotas: Whether groups had quotas.
    """

    pool: PoolEvidence
    target_rows: Sequence[tuple[str, int]]
    scores: Sequence[float] | None = None
    withheld: Sequence[Mapping[str, Any]] = ()
    target_rule: Literal["matching", "relevance"] | None = None
    must_include: int = 0
    quotas: bool = False


class EvidenceRows:
    """The rows of ``evidence.parquet``.

    Args:
        evidence: What was found out.
        selection: The selection.
        positions: Position of each candidate among the usable rows.
        tokens: Tokens of each candidate.
        excluded: Usable rows that were no candidates, each ``{"row": position, "code", "detail"}``.
        sources: Row in the source of every usable row.
    """

    def __init__(
        self,
        evidence: Evidence,
        selection: Selection,
        *,
        positions: Sequence[int],
        tokens: Sequence[int],
        excluded: Sequence[Mapping[str, Any]],
        sources: Sequence[int],
    ) -> None:
        self._evidence, self._selection, self._tokens, self._sources = evidence, selection, tokens, sources
        self._candidate_of = {position: row for row, position in enumerate(positions)}
        self._pick_sources = [int(sources[positions[index]]) for index in selection.indices]
        self._rank_of = {index: place for place, index in enumerate(selection.indices)}
        self._names = list(dict.fromkeys(name for name, _ in evidence.target_rows))
        self._relevances: list[list[float]] = [[] for _ in self._names]
        if evidence.pool.relevances is not None:
            for index in selection.indices:
                self._relevances[evidence.pool.tasks[index]].append(float(evidence.pool.relevances[index]))
        for values in self._relevances:
            values.sort()
        self._excluded = {int(item["row"]): item for item in (*evidence.withheld, *excluded)}

    def facts(self) -> SelectionFacts:
        """What all rows have in common."""
        selection = self._selection
        return SelectionFacts(
            method=selection.method,
            candidates=self._evidence.pool.available,
            selected=len(selection.indices),
            target_rule=self._evidence.target_rule,
            must_include=self._evidence.must_include,
            last_gain=selection.gains[-1] if selection.gains else None,
            last_score=selection.scores[-1] if selection.scores else None,
            stopped=selection.partial,
            quotas=self._evidence.quotas,
            picks={name: len(values) for name, values in zip(self._names, self._relevances, strict=True)},
        )

    def row(self, position: int) -> RowEvidence:
        """The evidence for one usable row.

        Args:
            position: Its place among the usable rows.
        """
        candidate, item = self._candidate_of.get(position), self._excluded.get(position)
        known: dict[str, Any] = {"source_row": int(self._sources[position]), "status": "excluded"}
        if item is not None:
            known |= {"code": str(item["code"]), "detail": str(item["detail"])}
        if candidate is None:
            return RowEvidence(**known)
        pool, picks, rank = self._evidence.pool, self._selection, self._rank_of.get(candidate)
        known |= {
            "tokens": int(self._tokens[candidate]),
            "conflict": float(pool.conflicts[candidate]),
            "gain": None if pool.gains is None else float(pool.gains[candidate]),
        }
        targets = self._evidence.target_rows
        if picks.method in IN_TURN:
            if rank is not None and picks.tasks is not None and picks.relevances is not None:
                known |= {"target": self._names[picks.tasks[rank]], "relevance": picks.relevances[rank]}
        elif pool.relevances is not None:
            task, relevance = int(pool.tasks[candidate]), float(pool.relevances[candidate])
            known |= {
                "target": self._names[task],
                "relevance": relevance,
                "relevance_rank": int(pool.relevance_ranks[candidate]) or None,
                "picks_above": len(self._relevances[task]) - bisect_right(self._relevances[task], relevance),
            }
        if pool.nearest_picks is not None and pool.nearest_picks[candidate] >= 0:
            place = int(pool.nearest_picks[candidate])
            known |= {
                "nearest_pick": self._pick_sources[place],
                "nearest_pick_rank": place + 1,
                "nearest_pick_cosine": float(pool.pick_cosines[candidate]),
            }
        if rank is not None:
            known |= {"status": "selected", "rank": rank + 1, "score": picks.scores[rank]}
            known |= {"gain": picks.gains[rank], "conflict": picks.conflicts[rank]}
        elif item is None:
            scores = self._evidence.scores
            known |= {"status": "not_selected", "score": None if scores is None else scores[candidate]}
        near = zip(pool.target_rows[candidate].tolist(), pool.target_cosines[candidate].tolist(), strict=True)
        return RowEvidence(
            **known,
            nearest_targets=[
                NearTargetRow(target=targets[place][0], row=targets[place][1], cosine=cosine) for place, cosine in near
            ],
        )

    def picks(self) -> Iterator[RowEvidence]:
        """The evidence for the selected rows, in pick order."""
        positions = {row: position for position, row in self._candidate_of.items()}
        return (self.row(positions[index]) for index in self._selection.indices)

    def write(self, path: Path, rows_each: int = 1024) -> None:
        """Write the file.

        Args:
            path: Its path.
            rows_each: Rows in memory at a time, and rows of a row group.
        """
        schema = EVIDENCE_SCHEMA.with_metadata({FACTS: self.facts().model_dump_json().encode()})
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for start in range(0, len(self._sources), rows_each):
                end = min(start + rows_each, len(self._sources))
                rows = [self.row(position).model_dump() for position in range(start, end)]
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def read_row_evidence(path: Path, source_row: int) -> tuple[RowEvidence | None, SelectionFacts]:
    """The evidence for one row, of which only its row group is read, and what it is to be read beside.

    Args:
        path: An ``evidence.parquet``.
        source_row: The row in the source.

    Returns:
        None for a row that is no usable row of the pool, and the facts.
    """
    metadata = pq.read_schema(path).metadata or {}
    facts = SelectionFacts.model_validate(json.loads(metadata[FACTS]))
    rows = pq.read_table(path, filters=[("source_row", "=", source_row)]).to_pylist()
    return (RowEvidence.model_validate(rows[0]) if rows else None), facts


def read_rows_not_selected(
    path: Path, status: Literal["not_selected", "excluded"], *, after: int, limit: int
) -> tuple[list[RowEvidence], SelectionFacts]:
    """Rows that were not selected: candidates that came nearest to it first, excluded rows in the order of the source.

    Nearest by the score that the rule would have compared next; where the rule has none, by relevance for their target,
    and without targets by what they would still add.

    Args:
        path: An ``evidence.parquet``.
        status: Which rows.
        after: How many of them to pass over.
        limit: Most rows.
    """
    metadata = pq.read_schema(path).metadata or {}
    facts = SelectionFacts.model_validate(json.loads(metadata[FACTS]))
    keys = ("score", "relevance_rank", "gain")
    table = pq.read_table(path, columns=["source_row", *keys], filters=[("status", "=", status)])
    known = [name for name in keys if table[name].null_count < len(table)] if status == "not_selected" else []
    by = [(name, "ascending" if name == "relevance_rank" else "descending") for name in known[:1]]
    rows = table.sort_by([*by, ("source_row", "ascending")])["source_row"].slice(after, limit).to_pylist()
    found = pq.read_table(path, filters=[("source_row", "in", rows)]).to_pylist() if rows else []
    place = {row: number for number, row in enumerate(rows)}
    found.sort(key=lambda item: place[item["source_row"]])
    return [RowEvidence.model_validate(item) for item in found], facts
