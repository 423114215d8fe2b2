"""A dry run on a data set: how its records are read, and what a trainer would learn of the first of them."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from spice_select.config import GradientConfig, ProxyConfig
from spice_select.ingest import DatasetManifest, IntakeLimits, IntakeOptions, iter_rows, read_dataset
from spice_select.ingest.stored import REJECTED
from spice_select.models.proxy import load_proxy
from spice_select.records.tokenize import IGNORED, NOTES, encode


@dataclass(frozen=True)
class PreviewedRow:
    """One row as it is read.

    Attributes:
        row: 0-based row of the source.
        messages: Its conversation.
        pieces: The text that the model sees, in pieces: whether each is learned, and its text. Empty where excluded.
        excluded: Why the row would be left out, ``code: detail``; None where it is used.
    """

    row: int
    messages: list[Any]
    pieces: list[tuple[bool, str]]
    excluded: str | None


@dataclass(frozen=True)
class Preview:
    """What a dry run found.

    Attributes:
        manifest: Form, columns, counts and warnings of the whole file.
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
        proxy: Whose tokenizer and template are used.
        gradients: Its ``max_length``, ``overflow`` and ``chat_date`` are read.
        rows: How many usable and how many rejected rows to show.

    Raises:
        DatasetError: The file as a whole cannot be used.
        ProxyError: The proxy model cannot be used.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
    settings = gradients or GradientConfig()
    with tempfile.TemporaryDirectory(prefix="spice-preview-") as scratch:
        folder = Path(scratch)
        manifest = read_dataset(source, folder, options, limits)
        first = list(islice((row for shard in manifest.shards for row in iter_rows(folder / shard.name)), rows))
        with (folder / REJECTED).open(encoding="utf-8") as lines:
            rejected = [json.loads(line) for line in islice(lines, rows)]
    tokenizer = load_proxy(proxy or ProxyConfig(), settings).tokenizer
    encoding = encode(
        [row.messages for row in first],
        tokenizer,
        max_length=settings.max_length,
        overflow=settings.overflow,
        today=settings.chat_date,
    )
    examples = dict(zip(encoding.kept, encoding.examples, strict=True))
    reasons = {item.index: f"{item.code}: {item.detail}" for item in encoding.excluded}
    shown = [
        PreviewedRow(
            row.source_row,
            list(row.messages),
            _pieces(tokenizer, examples[place].input_ids, examples[place].labels) if place in examples else [],
            reasons.get(place),
        )
        for place, row in enumerate(first)
    ]
    notes = [f"{NOTES[code]} ({count} of the rows shown)" for code, count in sorted(encoding.notes.items())]
    return Preview(manifest, shown, rejected, notes)


def _pieces(tokenizer: Any, input_ids: list[int], labels: list[int]) -> list[tuple[bool, str]]:
    """The text of the tokens, cut where labels begin and end."""
    runs: list[tuple[bool, list[int]]] = []
    for token, label in zip(input_ids, labels, strict=True):
        learned = label != IGNORED
        if runs and runs[-1][0] == learned:
            runs[-1][1].append(token)
        else:
            runs.append((learned, [token]))
    return [(learned, tokenizer.decode(tokens)) for learned, tokens in runs]
