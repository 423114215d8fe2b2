"""One setting of a request as a field of a form: what it is called, and its value as text and back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.ui.form_fields import as_number, pairs
from app.ui.labels import METHODS

NONE = "none"
"""What switches a setting off that may be off: an empty field leaves it as it usually is."""
LABELS = {
    "selection-alpha": "Fisher scale \N{GREEK SMALL LETTER ALPHA}",
    "selection-conflict_penalty": "Conflict penalty \N{GREEK SMALL LETTER LAMDA}",
    "selection-information_weight": "Information weight \N{GREEK SMALL LETTER ETA}",
    "selection-stop_ratio": "Stop ratio \N{GREEK SMALL LETTER OMEGA}",
    "gradients-layers": "Layers of",
    "gradients-sketch_dim": "Sketch, numbers per layer",
    "gradients-max_length": "Longest sequence, tokens",
    "gradients-targets": "What is measured",
    "gradients-dtype": "Arithmetic",
    "gradients-store_dtype": "Numbers are stored as",
    "selection-scope-kind": "Scope",
    "schedule-kind": "Schedule",
    "proxy-revision": "Revision of the model",
    "proxy-adapter": "Adapter of the model",
    "prefilter-method": "Rank the pool first by",
    "prefilter-keep": "Share of the rows to keep",
    "target_dataset_id": "Target data set",
    "deadline_seconds": "Deadline, seconds",
    "metadata": "Tags",
}


@dataclass(frozen=True)
class Setting:
    """One setting of a request as a field.

    Attributes:
        path: Its place in the request.
        kind: ``choice``, ``flag``, ``whole``, ``number``, ``text``, ``rows``, ``words``, ``pairs`` or ``counts``.
        options: Words of a choice.
        may_be_off: Whether null is a value of it.
        usual: What it is when nothing says otherwise, as text.
        hint: What it means.
    """

    path: tuple[str, ...]
    kind: str
    options: tuple[str, ...]
    may_be_off: bool
    usual: str
    hint: str

    @property
    def name(self) -> str:
        """Name of its field."""
        return "-".join(self.path)

    @property
    def label(self) -> str:
        """What it is called."""
        said = " ".join(self.path[1:] or self.path).replace("_", " ")
        return LABELS.get(self.name, said[:1].upper() + said[1:])

    @property
    def shown_options(self) -> list[tuple[str, str]]:
        """Words of a choice as they are shown, the usual one under the empty word."""
        names = METHODS if self.path[-1] == "method" else {}
        options = ("yes", "no") if self.kind == "flag" else self.options
        return [
            ("", f"as usual: {names.get(self.usual, self.usual)}"),
            *((word, names.get(word, word)) for word in options),
        ]

    def value(self, text: str) -> Any:
        """The value that a text says.

        Raises:
            ValueError: It says none.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps below
        if self.may_be_off and text.lower() == NONE:
            return None
        if self.kind in {"whole", "number"}:
            return as_number(text, whole=self.kind == "whole")
        if self.kind == "flag":
            return {"yes": True, "no": False}.get(text, text)
        if self.kind == "rows":
            return list(_rows(text))
        if self.kind == "words":
            return [word for word in re.split(r"[,\s]+", text) if word]
        if self.kind == "pairs":
            return pairs(text)
        if self.kind == "counts":
            return {name: as_number(count, whole=True) for name, count in _counts(text)}
        return text

    def text(self, value: Any) -> str | None:
        """The text that says a value; None where the field cannot say it."""
        if value is None:
            said = NONE if self.may_be_off else ""
        elif isinstance(value, bool):
            said = "yes" if value else "no"
        elif isinstance(value, list):
            said = _ranges(value) if self.kind == "rows" else ", ".join(map(str, value))
        elif isinstance(value, Mapping):
            said = "\n".join(f"{name} = {entry}" for name, entry in value.items())
        else:
            said = str(value)
        try:
            return said if said and self.value(said) == value else None
        except ValueError:
            return None


def _counts(text: str) -> Iterator[tuple[str, str]]:
    """Names and counts, one a line: split at the last sign, as a group may have one in its name.

    Raises:
        ValueError: A line is no pair.
    """
    for line in text.splitlines():
        name, equals, count = (part.strip() for part in line.rpartition("="))
        if line.strip() and not (equals and name):
            raise ValueError(f"\u201c{line.strip()[:40]}\u201d is not of the form name = value")
        if equals:
            yield name, count


def _rows(text: str) -> Iterator[int]:
    for part in re.split(r"[,\s]+", text):
        first, dash, last = part.partition("-")
        if part:
            start = int(as_number(first, whole=True))
            end = int(as_number(last, whole=True)) if dash else start
            if end - start > 10_000:
                raise ValueError(f"\u201c{part[:40]}\u201d is more than 10,000 rows")
            yield from range(start, end + 1)


def _ranges(rows: list[int]) -> str:
    runs: list[list[int]] = []
    for row in rows:
        if runs and row == runs[-1][1] + 1:
            runs[-1][1] = row
        else:
            runs.append([row, row])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
