"""A form as it was typed, with what is wrong beside each field: what all forms of the page share."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from app.api.problems import validation_errors
from app.errors import ServiceError
from spice_select.errors import SpiceError

Body = TypeVar("Body", bound=BaseModel)
IN_WORDS = {
    "Extra inputs are not permitted": "there is no such setting",
    "String should have at least 1 character": "this is needed",
    "List should have at least 1 item after validation, not 0": "choose at least one",
}
FieldOf = Callable[[str | None], str]
"""The field of a form that a JSON pointer of the request body stands for; empty where the form has none."""


def first_of(labels: Collection[str]) -> FieldOf:
    """Fields that a pointer names with its first part, where the form has a field of that name.

    Args:
        labels: The fields.
    """

    def field_of(pointer: str | None) -> str:
        name = (pointer or "").removeprefix("#/").split("/")[0]
        return name if name in labels else ""

    return field_of


@dataclass
class FormFields:
    """A form as it stands.

    Attributes:
        values: What is typed, by field.
        errors: What is wrong, by field; the form as a whole under an empty name.
    """

    values: dict[str, str]
    errors: dict[str, list[str]] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """What is typed into a field, without the spaces around it."""
        return self.values.get(name, "").strip()

    def refuse(self, name: str, detail: str) -> None:
        """Put an error beside a field."""
        said = self.errors.setdefault(name, [])
        if detail not in said:
            said.append(detail)

    def refuse_all(self, error: ServiceError | SpiceError, field_named: FieldOf) -> None:
        """Put what was refused beside the fields that its pointers name."""
        findings: Sequence[Mapping[str, Any]] = error.errors or [{"detail": error.detail}]
        for finding in findings:
            self.refuse(field_named(finding.get("pointer")), str(finding["detail"]))


def as_number(text: str, *, whole: bool) -> int | float:
    """The number that a text says; separators of thousands are ignored.

    Raises:
        ValueError: It says none, in words for a person.
    """
    plain = text.strip().replace(",", "")
    with suppress(ValueError, OverflowError):
        value = int(plain) if whole else float(plain)
        if math.isfinite(value):
            return value
    raise ValueError(f"\u201c{text.strip()[:40]}\u201d is not {'a whole number' if whole else 'a number'}")


def pairs(text: str) -> dict[str, str]:
    """Pairs of a name and a value, one a line as ``name = value``.

    Raises:
        ValueError: A line is no pair, in words for a person.
    """
    found = {}
    for line in text.splitlines():
        name, equals, value = (part.strip() for part in line.partition("="))
        if line.strip() and not (equals and name):
            raise ValueError(f"\u201c{line.strip()[:40]}\u201d is not of the form name = value")
        if equals:
            found[name] = value
    return found


def number(draft: FormFields, name: str, *, whole: bool = False) -> int | float | None:
    """The number in a field; None when it is empty or none, which is then said beside it.

    Args:
        draft: The form.
        name: The field.
        whole: Whether it takes whole numbers only.
    """
    if not draft.text(name):
        return None
    try:
        return as_number(draft.text(name), whole=whole)
    except ValueError as error:
        draft.refuse(name, str(error))
        return None


def accepted(draft: FormFields, model: type[Body], body: dict[str, Any], field_named: FieldOf) -> Body | None:
    """The request that a body is; None when something is wrong with it or with the draft, which is then said there.

    Args:
        draft: The form.
        model: Schema of the request.
        body: What the form stands for.
        field_named: The field of the form that a JSON pointer of the body stands for; empty where it has none.
    """
    try:
        asked = model.model_validate_json(json.dumps(body))
        return None if draft.errors else asked
    except ValidationError as error:
        findings = [{**finding, "loc": ("body", *finding["loc"])} for finding in error.errors(include_url=False)]
        for finding in validation_errors(findings, body):
            draft.refuse(field_named(finding.get("pointer")), _in_words(finding["detail"]))
        return None


def _in_words(detail: str) -> str:
    """What the validator says, as a person reads it beside a field."""
    if detail in IN_WORDS:
        return IN_WORDS[detail]
    return re.sub(r"^(Input|String) should", "this should", detail)
