"""The files and numbers of a selection, by whichever schedule and on whichever machine it was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from spice_select.defaults import notes
from spice_select.pipeline.constraints import read_source_rows
from spice_select.pipeline.select import RowStorage
from spice_select.records.encoding_notes import in_words
from spice_select.results.composition import composition
from spice_select.results.evidence_file import Evidence, EvidenceRows
from spice_select.results.measured import finding
from spice_select.results.outcome import Choice
from spice_select.results.reported import protected_report
from spice_select.results.run_metadata import RunFacts
from spice_select.results.write import Written, summarise, write_results

MOST_LISTED: Final = 1000
"""Truncated rows that a result names; the count is always whole."""


def source_rows(rows_shards: Sequence[Path], positions: Sequence[int]) -> list[int]:
    """Rows of the source at these positions among the usable rows.

    Args:
        rows_shards: The intake's ``rows-*.parquet``, in order.
        positions: Ascending.
    """
    found: list[int] = []
    first = place = 0
    for path in rows_shards:
        if place == len(positions):
            break
        after = first + pq.read_metadata(path).num_rows
        if positions[place] < after:
            column = pq.read_table(path, columns=["source_row"]).column(0)
            while place < len(positions) and positions[place] < after:
                found.append(int(column[positions[place] - first].as_py()))
                place += 1
        first = after
    return found


def write_choice(folder: Path, choice: Choice, storage: RowStorage, facts: RunFacts) -> tuple[dict[str, Any], Written]:
    """Write the files of a result.

    Args:
        folder: An empty folder, or one that is not there yet.
        choice: What was selected.
        storage: Where the rows are.
        facts: What the provenance says about the run.

    Returns:
        The numbers of the result on one page, and what was written.
    """
    summary = summarise(
        choice.selection,
        tokens=choice.tokens,
        excluded=choice.excluded,
        truncated=choice.truncated,
        random_utility=choice.random_utility,
        schedule=choice.schedule,
    )
    summary["truncated_samples"] = source_rows(storage.rows_shards, choice.truncated_positions[:MOST_LISTED])
    measured = finding(facts.config, has_targets=choice.selection.tasks is not None)
    told = [*notes(facts.config), *in_words(choice.notes), *([] if measured is None else [measured])]
    if facts.prefilter is not None and facts.prefilter.emptied:
        groups = ", ".join(facts.prefilter.emptied)
        told.append(f"The prefilter kept no row of these groups of the quotas: {groups}. A larger share keeps some.")
    if told:
        summary["notes"] = told
    if choice.targets and choice.selection.tasks is not None:
        summary["targets"] = _served(choice, choice.selection.tasks)
    if choice.decontamination is not None:
        summary["decontamination"] = dict(choice.decontamination)
    if choice.selection.opposition is not None:
        summary["protected"] = protected_report(choice.protected, choice.selection.opposition)
    summary["random_control"]["curve"] = choice.random_curve
    if facts.prefilter is not None:
        summary["prefilter"] = {**asdict(facts.prefilter), "emptied": list(facts.prefilter.emptied)}
    quotas = facts.config.selection.quotas
    summary["composition"] = composition(
        tokens=choice.tokens,
        chosen=choice.selection.indices,
        positions=choice.positions,
        rows_shards=storage.rows_shards,
        column=quotas.column if quotas is not None else None,
        targets=choice.targets,
        votes=choice.votes,
    )
    if choice.floors is not None:
        summary["composition"]["floors"] = dict(choice.floors)
    facts = replace(facts, excluded=summary["excluded_by_code"], decontamination=choice.decontamination)
    written = write_results(
        folder,
        rows_shards=storage.rows_shards,
        source_shards=storage.source_shards,
        selection=choice.selection,
        positions=choice.positions,
        tokens=choice.tokens,
        summary=summary,
        facts=facts,
        evidence=None if choice.evidence is None else _evidence(choice, choice.evidence, storage),
    )
    return summary, written


def _served(choice: Choice, tasks: Sequence[int]) -> dict[str, Any]:
    """What was selected for each target, and how relevant the picks are beside all candidates."""
    picks = Counter(tasks)
    sets = [
        {"name": target.name, "weight": target.weight, "rows": target.rows, "selected": picks[place]}
        for place, target in enumerate(choice.targets)
    ]
    relevances = None if choice.evidence is None else choice.evidence.pool.relevances
    if relevances is None:
        return {"sets": sets, "relevance": None}
    picked = relevances[list(choice.selection.indices)]
    return {"sets": sets, "relevance": {"selected": float(picked.mean()), "pool": float(relevances.mean())}}


def _evidence(choice: Choice, evidence: Evidence, storage: RowStorage) -> EvidenceRows:
    return EvidenceRows(
        evidence,
        choice.selection,
        positions=choice.positions,
        tokens=choice.tokens,
        excluded=choice.excluded,
        sources=read_source_rows(storage.rows_shards).tolist(),
    )
