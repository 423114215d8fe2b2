"""What could be meant where no form fits: the columns to send, as an error suggests them."""

from __future__ import annotations

import re
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


_IDENTITY: Final = re.compile(r"(^|_)(id|uuid|guid|url|uri|link|path|hash|sha\d*|md5)s?$", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"\s*([a-z][a-z0-9+.-]*://|/)\S*\s*", re.IGNORECASE)
_SHORT: Final = 40
"""Characters up to which a text that stands in several rows alike is a kind or a setting, no answer."""


def _is_no_text(values: list[str], name: str) -> bool:
    """Whether a column names its rows, holds addresses, or says the same few words in all of several rows."""
    constant = len(values) > 2 and len(set(values)) == 1 and len(values[0]) <= _SHORT
    return constant or _IDENTITY.search(name) is not None or all(_ADDRESS.fullmatch(value) for value in values)


def inner_messages(records: Sequence[object]) -> str | None:
    """Where messages are inside an object, as ``body.messages``, which no column mapping reaches; None for nowhere."""
    for record in records:
        for name, value in record.items() if isinstance(record, dict) else ():
            for key, inner in value.items() if isinstance(value, dict) else ():
                if (
                    isinstance(inner, list)
                    and inner
                    and isinstance(inner[0], dict)
                    and {"role", "from"} & inner[0].keys()
                ):
                    return f"{name}.{key}"
    return None


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
    for name in list(texts):
        if _is_no_text([record[name] for record in objects if isinstance(record.get(name), str)], name):
            del texts[name]
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
