"""``spice-select preview``: a dry run on a file of training records."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spice_select.cli import options
from spice_select.cli.output import out, print_json

if TYPE_CHECKING:
    from spice_select.pipeline.preview import Preview, PreviewedRow, RejectedAnswer


def preview(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, help="A file of records, or a folder of files.")],
    format: Annotated[str | None, typer.Option(help="Form of the records; found when left out.")] = None,
    columns: Annotated[
        str | None, typer.Option(help='JSON object, role to column: \'{"prompt": "q", "response": "a"}\'.')
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of several files: train, test, validation or all.")] = None,
    encoding: options.Encoding = None,
    proxy: Annotated[str, typer.Option(help="Whose tokenizer and chat template are used.")] = "builtin:tiny",
    objective: Annotated[str, typer.Option(help="What is learned of preference data: sft_chosen or dpo.")] = "sft",
    rows: Annotated[int, typer.Option(min=1, max=1000, help="How many rows to show.")] = 5,
    json: options.Json = False,
) -> None:
    """Show how a file is read and what would be learned of its first rows; nothing is computed or kept."""
    from pydantic import ValidationError

    from spice_select.config import GradientConfig, ProxyConfig
    from spice_select.ingest import IntakeOptions
    from spice_select.pipeline.preview import preview as dry_run

    try:
        mapping = None if columns is None else jsonlib.loads(columns)
        asked = IntakeOptions.model_validate(
            {"format": format, "columns": mapping, "split": split, "encoding": encoding}
        )
        gradients = GradientConfig.model_validate({"objective": objective})
    except (ValueError, ValidationError) as error:
        options.refuse(f"--format, --columns, --split, --encoding or --objective: {str(error).splitlines()[0]}")
    found = dry_run(file, asked, proxy=ProxyConfig(model=proxy), gradients=gradients, rows=rows)
    if json:
        manifest = found.manifest.model_dump(mode="json", exclude={"shards", "source_shards"})
        print_json({**asdict(found), "manifest": manifest})
    else:
        _print(found)


def _print(found: Preview) -> None:
    """The preview for a person: what is learned stands between ``[[`` and ``]]``."""
    manifest, sink = found.manifest, out()

    def say(text: str = "") -> None:
        sink.print(text, markup=False, highlight=False, soft_wrap=True)

    roles = ", ".join(f"{role}={column}" for role, column in manifest.columns.items())
    say(f"{manifest.container}, form {manifest.format} ({roles})")
    say(f"{manifest.num_usable} of {manifest.num_rows} rows usable")
    for code, count in manifest.rejected.items():
        say(f"  {code}: {count}")
    for warning in [*manifest.warnings, *found.notes]:
        say(f"warning: {warning}")
    for item in found.rejected:
        say(f"row {item['row']} cannot be used: {item['code']}: {item['detail']}")
    for row in found.rows:
        say()
        if row.excluded is not None:
            say(f"row {row.row} would be left out: {row.excluded['code']}: {row.excluded['detail']}")
            continue
        cut = ", cut at the maximal length" if row.truncated else ""
        say(f"row {row.row}, {row.num_learned} of {row.num_tokens} tokens learned{cut}; they stand in [[ ]]:")
        say(_marked(row))
        other = row.rejected_answer
        if other is not None and other.text is not None:
            say(f"its rejected answer, {other.num_learned} of {other.num_tokens} tokens count against it:")
            say(_marked(other))


def _marked(row: PreviewedRow | RejectedAnswer) -> str:
    """The text with brackets around what is learned."""
    text, pieces, place = row.text or "", [], 0
    for span in row.learned:
        pieces += [text[place : span.start], "[[", text[span.start : span.end], "]]"]
        place = span.end
    return "".join([*pieces, text[place:]])
