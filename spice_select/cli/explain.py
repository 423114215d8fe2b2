"""``spice-select explain``: why a row was selected, or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from spice_select.cli import jobs, options
from spice_select.cli.output import out, print_fields, print_json, styled

if TYPE_CHECKING:
    from spice_select.client.models import RowExplanation

MOST_CHARACTERS = 600
"""Characters of a message that are printed; ``--json`` has all."""


def explain(
    job: jobs.JobId,
    row: Annotated[int, typer.Argument(metavar="ROW", min=0, help="Row of the data set, from 0.")],
    json: options.Json = False,
) -> None:
    """Say why a row was selected, or not, and what it is near to."""
    with options.service() as client:
        found = client.jobs.row(job, row)
    if json:
        print_json(found)
        return
    out().print(styled(found.why))
    print_fields(numbers(found))
    texts(f"row {found.source_row}", found.messages)
    for near in found.nearest_targets:
        texts(f"near it in the target {near.target}: row {near.row}, cosine {near.cosine:.3f}", near.messages)
    if found.nearest_pick is not None:
        which = "nearest earlier pick" if found.rank else "nearest pick"
        place = f"pick {found.nearest_pick_rank}, row {found.nearest_pick}"
        texts(f"{which}: {place}, cosine {found.nearest_pick_cosine or 0.0:.3f}", found.nearest_pick_messages)


def numbers(row: RowExplanation) -> dict[str, Any]:
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
    """A conversation under a title; nothing of one that is not known."""
    if messages is None:
        return
    out().print()
    out().print(styled(title, style="bold"))
    for message in messages:
        content = str(message.get("content") or "")
        cut = content if len(content) <= MOST_CHARACTERS else f"{content[:MOST_CHARACTERS]} ..."
        out().print(styled(f"{message.get('role')}: {cut}"))
