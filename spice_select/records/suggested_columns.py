"""What could be meant where no form fits: the columns to send, as an error suggests them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from spice_select.records.formats import Columns
from spice_select.records.tool_calls import parsed

_BETTER: Final = (
    ("winner", "loser"), ("accepted", "rejected"), ("preferred", "dispreferred"), ("better", "worse"), ("good", "bad"),
    ("positive", "negative"), ("win", "lose"),
)  # fmt: skip
"""Names of a better and a worse answer to the same prompt."""


def suggested_columns(records: Sequence[object]) -> Columns | None:
    """What could be meant where no form fits: the mapping to send, or None where nothing can be guessed."""
    objects = [record for record in records if isinstance(record, dict)]
    texts: Counter[str] = Counter()
    for record in objects:
        for name, value in record.items():
            if isinstance(parsed(value), list) and parsed(value) and isinstance(parsed(value)[0], dict):
                return {"messages": name}
            if isinstance(value, str) and value.strip():
                texts[name] += len(value)
    if len(texts) == 1:
        return {"text": next(iter(texts))}
    low = {name.lower(): name for name in texts}
    for better, worse in _BETTER:
        if better in low and worse in low:
            pair: Columns = {"chosen": low[better], "rejected": low[worse]}
            others = [name for name, _ in texts.most_common() if name not in pair.values()]
            return {"prompt": others[0], **pair} if others else pair
    if any(name[:-1] == other[:-1] and name != other for name in low for other in low):
        return None  # `response_a` beside `response_b`: which is to be learned is not in their names
    longest = {name for name, _ in texts.most_common(2)}
    named = [name for record in objects[:1] for name in record if name in longest]
    return {"prompt": named[0], "response": named[1]} if len(named) == 2 else None
