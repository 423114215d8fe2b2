"""Targets and protected sets in the form of a new job, each from one of four places."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass
from typing import Any

from app.ui.form_fields import FormFields, number

KINDS = {
    "rows": "Rows pasted here",
    "file": "A file",
    "dataset_id": "A data set",
    "column": "Rows of the pool",
}
"""Where the rows of a target come from, by the field that says it."""
USUAL_COUNT = 30
"""Rows of the pool that become target rows, unless the form says otherwise."""
NAME = re.compile(r"(target|protect)_(\d{1,2})_(name|weight|kind|rows|file|dataset_id|column|value|count)")
"""Names of the fields of a target or a protected set."""
TITLES = {"target": "Target", "protect": "Protected set"}
MOST = {"target": 32, "protect": 8}
"""Most of each that a job may have."""
PARTS = {"name": "Name", "weight": "Weight", "count": "How many", "value": "Value", **KINDS, "column": "Column"}


@dataclass(frozen=True)
class Slot:
    """The fields of one target in the form.

    Attributes:
        prefix: What it is, ``target`` or ``protect``.
        number: Its place, from 0.
    """

    prefix: str
    number: int

    @property
    def title(self) -> str:
        """What it is called."""
        return f"{TITLES[self.prefix]} {self.number + 1}"

    def field(self, part: str) -> str:
        """Name of one of its fields."""
        return f"{self.prefix}_{self.number}_{part}"


def label(field: str) -> str | None:
    """What a field of a target is called; None for any other field."""
    found = NAME.fullmatch(field)
    return None if found is None else f"{Slot(found[1], int(found[2])).title}, {PARTS.get(found[3], 'Rows').lower()}"


def slots(draft: FormFields, prefix: str = "target") -> list[Slot]:
    """The targets that a form shows: those that are there, or an empty one."""
    found = {int(name[2]) for field in draft.values if (name := NAME.fullmatch(field)) and name[1] == prefix}
    return [Slot(prefix, number) for number in range(max(found, default=0) + 1)]


def kind_of(draft: FormFields, slot: Slot) -> str | None:
    """Where the rows come from: the place that is marked if anything is there, else the first with something."""
    marked = draft.text(slot.field("kind"))
    given = [kind for kind in KINDS if draft.text(slot.field(kind))]
    return marked if marked in given else next(iter(given), None)


def compact(draft: FormFields, prefix: str = "target") -> None:
    """Take empty targets out, so that a target has the same number in the form and in the request."""
    kept = [slot for slot in slots(draft, prefix) if kind_of(draft, slot) or draft.text(slot.field("name"))]
    values = [{part: draft.values[slot.field(part)] for part in _parts(draft, slot)} for slot in kept]
    for field in [field for field in draft.values if (name := NAME.fullmatch(field)) and name[1] == prefix]:
        del draft.values[field]
    for place, parts in enumerate(values):
        draft.values |= {Slot(prefix, place).field(part): text for part, text in parts.items()}


def _parts(draft: FormFields, slot: Slot) -> list[str]:
    return [part for part in ("kind", *PARTS) if slot.field(part) in draft.values]


def read(draft: FormFields, prefix: str = "target") -> list[dict[str, Any]]:
    """The targets as the request has them; what is wrong with one is said in the draft."""
    compact(draft, prefix)
    found = []
    for slot in slots(draft, prefix):
        kind = kind_of(draft, slot)
        if kind is None:
            if draft.text(slot.field("name")):
                draft.refuse(slot.field("rows"), "say which rows show what is wanted")
            continue
        draft.values[slot.field("kind")] = kind
        target: dict[str, Any] = {"name": draft.text(slot.field("name")) or _usual_name(draft, slot, kind)}
        weight = number(draft, slot.field("weight"))
        if weight is not None:
            target["weight"] = weight
        if kind == "rows":
            try:
                target["rows"] = pasted(draft.text(slot.field("rows")))
            except ValueError as error:
                draft.refuse(slot.field("rows"), str(error))
        elif kind == "column":
            count = number(draft, slot.field("count"), whole=True)
            target |= {"column": draft.text(slot.field("column")), "value": draft.text(slot.field("value"))}
            target["rows"] = USUAL_COUNT if count is None else count
        else:
            target["dataset_id"] = draft.text(slot.field("dataset_id"))
        found.append(target)
    return found


def _usual_name(draft: FormFields, slot: Slot, kind: str) -> str:
    said = draft.text(slot.field("value")) if kind == "column" else ""
    return said[:100] or slot.title.lower()


def pasted(text: str) -> list[dict[str, Any]]:
    """Records in pasted text: JSON Lines, an array of JSON, or a table with a line of names, as spreadsheets copy it.

    Raises:
        ValueError: It is none of these; which line, in words.
    """
    if text[:1] not in {"[", "{"}:
        return _table(text)
    if text[:1] == "[":
        try:
            records = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"this begins like an array of JSON and is none: {error.msg}, line {error.lineno}"
            ) from None
        lines = list(enumerate(records, 1))
    else:
        lines = []
        for place, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    lines.append((place, json.loads(line)))
                except json.JSONDecodeError as error:
                    raise ValueError(f"line {place} is not JSON: {error.msg}") from None
    for place, record in lines:
        if not isinstance(record, dict):
            raise ValueError(f"record {place} is not an object with named fields")
    return [record for _, record in lines]


def _table(text: str) -> list[dict[str, Any]]:
    first, _, rest = text.partition("\n")
    separator = "\t" if "\t" in first else ","
    if separator not in first or not rest.strip():
        raise ValueError(
            'give one record of JSON a line, such as {"prompt": "...", "response": "..."}, or a table with a line of '
            "column names above it"
        )
    rows = list(csv.DictReader(io.StringIO(text), delimiter=separator, restkey="", restval=None))
    for place, row in enumerate(rows, 1):
        if "" in row or None in row.values():
            raise ValueError(f"row {place} of the table has more or fewer columns than its first line")
    return [dict(row) for row in rows]


def write(targets: list[dict[str, Any]], prefix: str = "target") -> dict[str, str]:
    """The fields of targets as a request has them."""
    texts: dict[str, str] = {}
    for place, target in enumerate(targets):
        slot, rows = Slot(prefix, place), target.get("rows")
        kind = "dataset_id" if target.get("dataset_id") else "column" if target.get("column") else "rows"
        values: dict[str, Any] = {"kind": kind, "name": target["name"], "weight": f"{target.get('weight', 1.0):g}"}
        if kind == "rows":
            values["rows"] = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows or [])
        elif kind == "column":
            values |= {"column": target["column"], "value": target.get("value") or "", "count": rows}
        else:
            values["dataset_id"] = target["dataset_id"]
        texts |= {slot.field(part): str(value) for part, value in values.items()}
    return texts


def field_at(draft: FormFields, parts: list[str], prefix: str = "target") -> str:
    """The field of a place in the targets of the request.

    Args:
        draft: The form, compacted.
        parts: Number of the target, and what lies in it.
        prefix: What the targets are.
    """
    if not parts or not parts[0].isdigit():
        return Slot(prefix, 0).field("rows")
    slot = Slot(prefix, int(parts[0]))
    kind = kind_of(draft, slot) or "rows"
    part = parts[1] if len(parts) > 1 else kind
    if part == "rows" and kind == "column":
        part = "count"
    return slot.field(part if NAME.fullmatch(slot.field(part)) else kind)
