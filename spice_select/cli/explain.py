"""``spice-select explain``: why a row was selected, or not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from spice_select.cli import options
from spice_select.cli.output import out, print_fields, print_json, styled
from spice_select.results.row_evidence import ExplainedRow, why

MOST_CHARACTERS = 600
"""Characters of a message that are printed; ``--json`` has all."""


def explain(
    result: Annotated[
        str, typer.Argument(metavar="JOB|FOLDER", help="Id of a job (job_...), or the folder of a result.")
    ],
    row: Annotated[int, typer.Argument(metavar="ROW", min=0, help="Row of the data set, from 0.")],
    json: options.Json = False,
) -> None:
    """Say why a row was selected, or not, and what it is near to."""
    found = _in_folder(Path(result), row) if Path(result).is_dir() else _of_job(result, row)
    if json:
        print_json(found)
        return
    out().print(styled(found.why))
    print_fields(numbers(found))
    if found.messages is not None:
        texts(f"row {found.source_row}", found.messages)
    for near in found.nearest_targets:
        texts(f"near it in the target {near.target}: row {near.row}, cosine {near.cosine:.3f}", near.messages)
    if found.nearest_pick is not None:
        which = "nearest earlier pick" if found.rank else "nearest pick"
        place = f"pick {found.nearest_pick_rank}, row {found.nearest_pick}"
        texts(f"{which}: {place}, cosine {found.nearest_pick_cosine or 0.0:.3f}", found.nearest_pick_messages)


def _of_job(job: str, row: int) -> ExplainedRow:
    if not job.startswith("job_"):
        options.refuse(f"{job!r} is neither the folder of a result nor the id of a job (job_...)")
    with options.service() as client:
        return client.jobs.row(job, row)


def _in_folder(folder: Path, row: int) -> ExplainedRow:
    """The evidence of a local result, which holds no texts of rows that were not selected."""
    from spice_select.results.evidence_file import NAME, read_row_evidence

    path = folder / NAME
    if not path.is_file():
        options.refuse(
            f"{folder} holds no {NAME}: it is no result, or that of a periodic or partitioned selection, which has none"
        )
    evidence, facts = read_row_evidence(path, row)
    if evidence is None:
        options.refuse(f"row {row} is no usable row of the pool that {folder} was selected from")
    return ExplainedRow.model_validate({**evidence.model_dump(), "why": why(evidence, facts)})


def numbers(row: ExplainedRow) -> dict[str, Any]:
    """The numbers of a row, named as people say them."""
    return {
        "target": row.target,
        "relevance": row.relevance,
        "rank by relevance": row.relevance_rank,
        "picks more relevant": row.picks_above,
        "gain (nats)": row.gain,
        "conflict": row.conflict,
        "score": row.score,
        "tokens": row.tokens,
        "code": row.code,
    }


def texts(title: str, messages: list[dict[str, Any]] | None) -> None:
    """A conversation under a title; the title alone where the conversation is not known."""
    out().print()
    out().print(styled(title, style="bold"))
    for message in messages or ():
        content = str(message.get("content") or "")
        cut = content if len(content) <= MOST_CHARACTERS else f"{content[:MOST_CHARACTERS]} ..."
        out().print(styled(f"{message.get('role')}: {cut}"))
