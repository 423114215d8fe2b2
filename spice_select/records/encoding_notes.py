"""What the rendering of rows leaves out though the rows are used. Light: who only selects must say it too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

NOTES: Final = {
    "reasoning-not-rendered": "the chat template leaves out reasoning, which is then not learned",
    "text-not-rendered": "the chat template leaves out the text beside a tool call, which is then not learned",
    "tools-not-rendered": "the chat template leaves out the definitions of tools",
    "markers-are-text": "the text holds marks of a chat template that are no tokens of this tokenizer",
}
"""Code of a note -> what it says."""


def in_words(counts: Mapping[str, int]) -> list[str]:
    """A sentence for each note.

    Args:
        counts: Code to the number of rows that it is about.
    """
    return [f"{code}: {NOTES.get(code, code)} ({count} rows)" for code, count in sorted(counts.items())]
