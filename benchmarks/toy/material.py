"""Rows of a file, read as they are, and their examples under a tokenizer."""

from __future__ import annotations

import gzip
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import spice_select as ss
from spice_select.records.near_duplicates import near_duplicates_of
from spice_select.records.tokenize import Example
from spice_select.selection.baselines import random_order

PROMPTS = ("instruction", "input", "question", "prompt")
RESPONSES = ("output", "response", "answer", "completion")


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON Lines, plain or gzip, that ask and answer something."""
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [row for row in rows if all(part.strip() for part in (parts(row)[0], parts(row)[-1]))]


def parts(row: dict[str, Any]) -> list[str]:
    """What is asked and what is answered."""
    if "messages" in row:
        return [str(message["content"]) for message in row["messages"]]
    asked = "\n".join(str(row[name]) for name in PROMPTS if row.get(name))
    return [asked, next(str(row[name]) for name in RESPONSES if name in row)]


def text_of(row: dict[str, Any]) -> str:
    """Everything a row says."""
    return "\n".join(parts(row))


def unlike(rows: Sequence[dict[str, Any]], texts: Sequence[str]) -> list[dict[str, Any]]:
    """The rows that are no near-duplicate of any of the texts."""
    alike = set(near_duplicates_of([text_of(row) for row in rows], list(texts))) if texts else set()
    return [row for place, row in enumerate(rows) if place not in alike]


def encoded(rows: Sequence[dict[str, Any]], tokenizer: Any, max_length: int) -> list[tuple[Example, int]]:
    """Examples with something to learn, and the row each came from."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows that teach nothing are left out, which is what the warning tells
        found = ss.load_examples(rows, tokenizer, max_length=max_length)
    return [(example, row) for row, example in enumerate(found) if example.input_ids]


def dealt(rows: Sequence[dict[str, Any]], cluster: str | None, seed: int) -> Iterator[list[dict[str, Any]]]:
    """The rows in random order, those with the same value in a column together (one row at a time without a column).

    Args:
        rows: Rows.
        cluster: Column, such as that of the prompt where a prompt has several answers.
        seed: Seed of the order.
    """
    together: dict[Any, list[dict[str, Any]]] = {}
    for place, row in enumerate(rows):
        together.setdefault(place if cluster is None else row.get(cluster), []).append(row)
    members = list(together.values())
    for place in random_order(len(members), seed).tolist():
        yield members[place]
