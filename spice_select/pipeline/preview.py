"""A dry run on a data set: how its records are read, and what a trainer would learn of the first of them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spice_select.config import GradientConfig, ProxyConfig
from spice_select.ingest import DatasetManifest, IntakeLimits, IntakeOptions, PoolRow, iter_rows, read_dataset
from spice_select.ingest.stored import REJECTED

if TYPE_CHECKING:
    from spice_select.records.tokenize import Example


@dataclass(frozen=True)
class LearnedSpan:
    """A range of the rendered text whose tokens are learned.

    Attributes:
        start: First character, counted from 0.
        end: Behind the last one.
        weight: Factor of the loss of its tokens.
    """

    start: int
    end: int
    weight: float = 1.0


@dataclass(frozen=True)
class RejectedAnswer:
    """The answer of a pair that was not preferred.

    Attributes:
        messages: Its messages.
        text: Prompt and answer as the model sees them; None where only the chosen answer is learned.
        learned: What of the text is labelled, ascending.
        num_tokens: Tokens of the text.
        num_learned: Tokens of it that are labelled.
    """

    messages: list[Any]
    text: str | None = None
    learned: tuple[LearnedSpan, ...] = ()
    num_tokens: int | None = None
    num_learned: int | None = None


@dataclass(frozen=True)
class PreviewedRow:
    """One row as it is read and learned.

    Attributes:
        row: 0-based row of the source.
        messages: Its conversation.
        text: What the model sees; None where the row is left out, or nothing can be rendered.
        learned: What of the text is learned, ascending.
        num_tokens: Tokens of the text.
        num_learned: Tokens of it that are learned.
        truncated: Whether the text was cut at ``max_length``.
        excluded: Why the row would be left out, ``{"code", "detail"}``; None where it is used.
        rejected_answer: The other answer of a preference pair.
    """

    row: int
    messages: list[Any]
    text: str | None = None
    learned: tuple[LearnedSpan, ...] = ()
    num_tokens: int | None = None
    num_learned: int | None = None
    truncated: bool = False
    excluded: dict[str, str] | None = None
    rejected_answer: RejectedAnswer | None = None


@dataclass(frozen=True)
class Preview:
    """What a dry run found.

    Attributes:
        manifest: Form, columns, counts and warnings of the file.
        rows: The first usable rows.
        rejected: The first rows that cannot be used, each ``{"row", "code", "detail"}``.
        notes: What the template leaves out of the rows shown.
    """

    manifest: DatasetManifest
    rows: list[PreviewedRow]
    rejected: list[dict[str, Any]]
    notes: list[str]


def preview(
    source: Path,
    options: IntakeOptions | None = None,
    limits: IntakeLimits | None = None,
    *,
    proxy: ProxyConfig | None = None,
    gradients: GradientConfig | None = None,
    rows: int = 5,
) -> Preview:
    """Read a whole file and show the first rows as they would be measured; nothing is computed or kept.

    Args:
        source: A file, or a folder of files.
        options: Form and columns, when they should not be found.
        limits: Caps on the source.
        proxy: Whose tokenizer and template are used; its weights are not loaded.
        gradients: Its ``objective``, ``max_length``, ``overflow`` and ``chat_date`` are read.
        rows: How many usable and how many rejected rows to show.

    Raises:
        DatasetError: The file as a whole cannot be used.
        ProxyError: The proxy model cannot be used.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
    manifest, first, rejected = read_first(source, options, limits, rows=rows)
    from spice_select.models.tokenizer import proxy_tokenizer

    tokenizer = proxy_tokenizer(proxy or ProxyConfig())
    shown, notes = render_rows(first, tokenizer, gradients or GradientConfig())
    return Preview(manifest, shown, rejected, notes)


def read_first(
    source: Path, options: IntakeOptions | None, limits: IntakeLimits | None, *, rows: int
) -> tuple[DatasetManifest, list[PoolRow], list[dict[str, Any]]]:
    """What a file is, its first usable rows and the first rows that cannot be used.

    Args:
        source: A file, or a folder of files.
        options: Form and columns, when they should not be found.
        limits: Caps on the source.
        rows: How many of each.

    Raises:
        DatasetError: The file as a whole cannot be used.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by read_dataset()
    with tempfile.TemporaryDirectory(prefix="spice-preview-") as scratch:
        folder = Path(scratch)
        manifest = read_dataset(source, folder, options, limits)
        first = list(islice((row for shard in manifest.shards for row in iter_rows(folder / shard.name)), rows))
        with (folder / REJECTED).open(encoding="utf-8") as lines:
            return manifest, first, [json.loads(line) for line in islice(lines, rows)]


def render_rows(
    rows: Sequence[PoolRow], tokenizer: Any, settings: GradientConfig
) -> tuple[list[PreviewedRow], list[str]]:
    """Rows as a tokenizer renders them, with what is learned of each, and what its template leaves out.

    Args:
        rows: Usable rows.
        tokenizer: A fast tokenizer of transformers.
        settings: Its ``objective``, ``max_length``, ``overflow`` and ``chat_date`` are read. With ``sft`` preference
            data is shown as the objective would have it that learns most of it.
    """
    from spice_select.records.encoding_notes import NOTES
    from spice_select.records.tokenize import encode

    objective = settings.objective
    if objective == "sft" and any(row.messages.is_preference for row in rows):
        objective = "dpo" if any(row.messages.rejected is not None for row in rows) else "sft_chosen"
    encoding = encode(
        [row.messages for row in rows],
        tokenizer,
        max_length=settings.max_length,
        overflow=settings.overflow,
        today=settings.chat_date,
        objective=objective,
    )
    examples = dict(zip(encoding.kept, encoding.examples, strict=True))
    reasons = {item.index: {"code": item.code, "detail": item.detail} for item in encoding.excluded}
    shown = [
        _rendered(row, tokenizer, examples[place], truncated=place in encoding.truncated)
        if place in examples
        else unrendered(row, reasons.get(place))
        for place, row in enumerate(rows)
    ]
    notes = [f"{NOTES[code]} ({count} of the rows shown)" for code, count in sorted(encoding.notes.items())]
    return shown, [f"shown as the objective {objective} learns it", *notes] if objective != "sft" else notes


def unrendered(row: PoolRow, excluded: dict[str, str] | None = None) -> PreviewedRow:
    """A row without its text.

    Args:
        row: A usable row.
        excluded: Why it would be left out.
    """
    rejected = row.messages.rejected
    beside = None if rejected is None else RejectedAnswer(list(rejected))
    return PreviewedRow(row.source_row, list(row.messages), excluded=excluded, rejected_answer=beside)


def _rendered(row: PoolRow, tokenizer: Any, example: Example, *, truncated: bool) -> PreviewedRow:
    """The row with its text, and of a pair that of both sides."""
    chosen, *others = (_labelled(side, tokenizer) for side in example.sequences())
    rejected = row.messages.rejected
    beside = None if rejected is None else RejectedAnswer(list(rejected), *(others[0] if others else ()))
    return PreviewedRow(row.source_row, list(row.messages), *chosen, truncated=truncated, rejected_answer=beside)


def _labelled(sequence: Example, tokenizer: Any) -> tuple[str, tuple[LearnedSpan, ...], int, int]:
    """The text of the tokens, where labels begin and end in it, and how many tokens and labels there are."""
    from spice_select.records.tokenize import IGNORED

    factors = [0.0] * len(sequence.labels)
    for place, label in enumerate(sequence.labels):
        if label != IGNORED:
            factors[place] = 1.0 if sequence.weights is None else sequence.weights[place]
    text, learned, start = "", list[LearnedSpan](), 0
    for place, factor in enumerate(factors):
        if place + 1 < len(factors) and factors[place + 1] == factor:
            continue
        piece = tokenizer.decode(sequence.input_ids[start : place + 1])
        if factor:
            learned.append(LearnedSpan(len(text), len(text) + len(piece), factor))
        text, start = text + piece, place + 1
    return text, tuple(learned), len(factors), sum(label != IGNORED for label in sequence.labels)
