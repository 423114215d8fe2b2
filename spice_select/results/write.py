"""Write the files of a result.

Equal input gives equal bytes; only ``croissant.json`` and the provenance hold times. Shards are streamed: neither the
pool nor the chosen rows are ever in memory as a whole.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from spice_select.records.exact_numbers import load_record
from spice_select.results.card import data_card
from spice_select.results.croissant import croissant
from spice_select.results.evidence_file import NAME as EVIDENCE
from spice_select.results.evidence_file import EvidenceRows
from spice_select.results.json_columns import Columns, is_json_text, to_table
from spice_select.results.llamafactory import TagCount, dataset_entry, is_known, is_read
from spice_select.results.provenance import build_statement, statement_line
from spice_select.results.result_folder import MEDIA_TYPES, STATED, ranking_schema
from spice_select.results.row_evidence import RowEvidence
from spice_select.results.run_metadata import ResultFile, RunFacts
from spice_select.results.selected_rows import SelectedRows
from spice_select.results.selected_sample import SelectedSample

if TYPE_CHECKING:
    from spice_select.selection.result import Selection

RANKING_SCHEMA = ranking_schema()
TRACE_SCHEMA = pa.schema([("rank", pa.int64()), ("utility", pa.float64()), ("tokens", pa.int64())])


NO_TARGET = (
    "No target was given, so nothing says which rows are noise: the selection may hold more noise than its share of "
    "the pool. Name what the model should get better at with targets; a few example rows are enough."
)
"""What a result without targets says first."""


@dataclass(frozen=True)
class Written:
    """What ``write_results`` wrote.

    Attributes:
        files: Every file, in the order of ``MEDIA_TYPES``.
        ranking: The rows of ``ranking.parquet``.
        statement: The provenance statement.
    """

    files: list[ResultFile]
    ranking: list[SelectedSample]
    statement: dict[str, Any]


def summarise(
    selection: Selection,
    *,
    tokens: Sequence[int],
    excluded: Sequence[Mapping[str, Any]],
    truncated: int,
    random_utility: float | None,
    schedule: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The numbers of a result on one page: the part of a job's ``result`` that follows from the selection.

    Args:
        selection: The selection.
        tokens: Tokens of each candidate, in pool order.
        excluded: Usable rows that became no candidate, each with its ``code``.
        truncated: GradientMatrix that were cut at the maximal length.
        random_utility: Utility (nats) of as many candidates drawn at random; None when it was not computed.
        schedule: What is to be said about the schedule ``periodic``; None for ``offline``.
    """
    picked = len(selection.indices)
    untargeted = selection.tasks is None and selection.method in {"spice", "fisher"}
    return {
        **({"notice": NO_TARGET} if untargeted else {}),
        "selected": picked,
        "pool": len(tokens),
        "excluded": len(excluded),
        "excluded_by_code": dict(sorted(Counter(str(item["code"]) for item in excluded).items())),
        "truncated": truncated,
        "tokens_selected": sum(int(tokens[index]) for index in selection.indices),
        "tokens_pool": sum(int(count) for count in tokens),
        "utility": selection.utility,
        "stop_reason": selection.stop_reason,
        "first_gain": selection.gains[0] if picked else None,
        "last_gain": selection.gains[-1] if picked else None,
        "mean_conflict": sum(selection.conflicts) / picked if picked else None,
        **({} if selection.undecided is None else {"undecided": selection.undecided}),
        "certificate": None if selection.certificate is None else asdict(selection.certificate),
        "scope": None if selection.scope is None else asdict(selection.scope),
        "random_control": None if random_utility is None else {"utility": random_utility},
        **({} if schedule is None else {"schedule": dict(schedule)}),
    }


def write_results(
    out: Path,
    *,
    rows_shards: Sequence[Path],
    source_shards: Sequence[Path],
    selection: Selection,
    positions: Sequence[int],
    tokens: Sequence[int],
    summary: Mapping[str, Any],
    facts: RunFacts,
    evidence: EvidenceRows | None = None,
) -> Written:
    """Write every file of a result into a folder.

    Args:
        out: The folder; made when missing. Files of the same names are replaced.
        rows_shards: The intake's ``rows-*.parquet``, in order.
        source_shards: The intake's ``source-*.parquet``, in order; empty unless the source was Parquet.
        selection: The selection.
        positions: Position of each candidate among the usable rows.
        tokens: Tokens of each candidate.
        summary: ``summarise`` of the same selection.
        facts: What the provenance states.
        evidence: Why each row was selected, or not; None writes no ``evidence.parquet``.

    Returns:
        The files with their digests, the ranking and the provenance statement.
    """
    out.mkdir(parents=True, exist_ok=True)
    picks = [int(positions[index]) for index in selection.indices]
    picked_tokens = [int(tokens[index]) for index in selection.indices]
    entry_name = _entry_name(facts.dataset.name)
    columns = ["source_row", "row_sha256", "record"]
    with SelectedRows(rows_shards, picks, out / ".rows.partial", columns) as rows:
        entry = _write_jsonl(out / "selected.jsonl", rows, facts)
        if source_shards:
            text_columns = _write_source_columns(out / "selected.parquet", source_shards, picks)
        else:
            text_columns = _write_json_columns(out / "selected.parquet", rows)
        ranking = _ranking(rows, selection, picked_tokens, [target.name for target in facts.targets], evidence)
    _write_table(
        out / "ranking.parquet",
        RANKING_SCHEMA,
        [[getattr(row, name) for row in ranking] for name in RANKING_SCHEMA.names],
    )
    if evidence is not None:
        evidence.write(out / EVIDENCE)
    trace = [range(1, len(picks) + 1), accumulate(selection.gains), accumulate(picked_tokens)]
    _write_table(out / "trace.parquet", TRACE_SCHEMA, [list(column) for column in trace])
    _write_text(out / "dataset_info.json", json.dumps({entry_name: entry} if entry else {}, indent=2) + "\n")
    card = data_card(summary, facts, text_columns=text_columns, trainer_entry=entry_name if entry else None)
    _write_text(out / "README.md", card)
    left_out = {"croissant.json", *(() if evidence is not None else (EVIDENCE,))}
    files = [describe(out / name) for name in STATED if name not in left_out]
    described = croissant(files, summary, facts, rows=pq.read_schema(out / "selected.parquet"), ranking=RANKING_SCHEMA)
    _write_text(out / "croissant.json", described)
    files.append(describe(out / "croissant.json"))
    statement = build_statement(files, facts)
    _write_text(out / "provenance.intoto.jsonl", statement_line(statement))
    files.append(describe(out / "provenance.intoto.jsonl"))
    _write_text(out / "SHA256SUMS", "".join(f"{file.sha256}  {file.name}\n" for file in files))
    files.append(describe(out / "SHA256SUMS"))
    return Written(files, ranking, statement)


def describe(path: Path) -> ResultFile:
    """Size and digest of a file of a result."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ResultFile(path.name, MEDIA_TYPES[path.name], path.stat().st_size, digest)


def _write_jsonl(path: Path, rows: SelectedRows, facts: RunFacts) -> dict[str, Any] | None:
    """Write the rows as they are; returns LLaMA-Factory's entry, or None where it cannot read the records."""
    columns = facts.dataset.columns
    tags = TagCount(columns["messages"]) if "messages" in columns else None
    readable = is_known(columns)
    with path.open("wb") as sink:
        for record in _records(rows):
            sink.write(record.encode() + b"\n")
            parsed = json.loads(record)
            if tags is not None:
                tags.observe(parsed)
            readable = readable and is_read(parsed, columns)
    if not readable:
        return None
    if tags is None:
        return dataset_entry(path.name, columns, None)
    return dataset_entry(path.name, columns, tags.tags(), calls_tools=tags.calls_tools)


def _records(rows: SelectedRows) -> Iterator[str]:
    for chunk in rows.chunks():
        yield from chunk.column("record").to_pylist()


def _write_json_columns(path: Path, rows: SelectedRows) -> list[str]:
    """The chosen records as typed columns; returns the names of those that hold JSON text."""
    columns = Columns()
    for record in _records(rows):
        columns.observe(load_record(record))
    schema = columns.schema()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for chunk in rows.chunks():
            writer.write_table(to_table(map(load_record, chunk.column("record").to_pylist()), schema))
    return [column.name for column in schema if is_json_text(column)]


def _write_source_columns(path: Path, source_shards: Sequence[Path], picks: Sequence[int]) -> list[str]:
    """The chosen rows with the source's own Arrow schema and values."""
    with (
        SelectedRows(source_shards, picks, path.with_name(".source.partial")) as rows,
        pq.ParquetWriter(path, rows.schema, compression="zstd") as writer,
    ):
        for chunk in rows.chunks():
            writer.write_table(chunk)
    return []


def _ranking(
    rows: SelectedRows,
    selection: Selection,
    tokens: Sequence[int],
    targets: Sequence[str],
    evidence: EvidenceRows | None,
) -> list[SelectedSample]:
    nothing = [None] * len(tokens)

    identity = [
        pair
        for chunk in rows.chunks()
        for pair in zip(chunk.column("source_row").to_pylist(), chunk.column("row_sha256").to_pylist(), strict=True)
    ]
    numbers_of_picks = zip(
        selection.gains,
        selection.base_gains,
        selection.epsilons,
        selection.conflicts,
        selection.scores,
        tokens,
        nothing if selection.tasks is None else [targets[task] for task in selection.tasks],
        selection.relevances or nothing,
        strict=True,
    )
    near = [{}] * len(tokens) if evidence is None else map(_near, evidence.picks())
    names = RANKING_SCHEMA.names
    return [
        SelectedSample(**dict(zip(names, (rank, *origin, *numbers), strict=False)), **nearest)
        for rank, (origin, numbers, nearest) in enumerate(zip(identity, numbers_of_picks, near, strict=True), start=1)
    ]


def _near(row: RowEvidence) -> dict[str, Any]:
    """What a pick is nearest to."""
    pick = {"nearest_pick": row.nearest_pick, "nearest_pick_cosine": row.nearest_pick_cosine}
    if not row.nearest_targets:
        return pick
    near = row.nearest_targets[0]
    target = {"nearest_target": near.target, "nearest_target_row": near.row, "nearest_target_cosine": near.cosine}
    return {**target, **pick}


def _write_table(path: Path, schema: pa.Schema, columns: Sequence[Sequence[Any]]) -> None:
    filled = columns or [[] for _ in schema]
    arrays = [pa.array(column, field.type) for column, field in zip(filled, schema, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, compression="zstd")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _entry_name(name: str) -> str:
    """A name that LLaMA-Factory can take on its command line, where names are separated by commas."""
    stem = name.split("/")[-1].split(".")[0]
    return "spice_" + (re.sub(r"[^A-Za-z0-9]+", "_", stem).strip("_").lower() or "selected")
