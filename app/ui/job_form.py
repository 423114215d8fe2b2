"""What a person typed into the form of a new job: read, checked, shown again with what is wrong beside each field."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from app.api.problems import validation_errors
from app.api.schemas.jobs import JobCreate, JobRead
from app.errors import ServiceError
from spice_select.config import GradientConfig, SelectionOptions
from spice_select.errors import SpiceError

Body = TypeVar("Body", bound=BaseModel)

UNITS = {"percent": "% of the rows", "count": "rows", "tokens": "tokens"}
SELECTION_NUMBERS = ("conflict_penalty", "alpha", "stop_ratio")
GRADIENT_NUMBERS = ("sketch_dim", "max_length")
GRADIENT_WORDS = ("loss", "normalize")
WHOLE = {"count", "tokens", "sketch_dim", "max_length", "seed", "priority"}
FIELDS = (
    "dataset_id",
    "source",
    "amount",
    "unit",
    "method",
    "proxy",
    "name",
    "priority",
    "seed",
    "deadline",
    *SELECTION_NUMBERS,
    *GRADIENT_NUMBERS,
    *GRADIENT_WORDS,
    "once",
    "like",
)
"""Names of the form's fields, apart from the file."""
LABELS = {
    "file": "File",
    "dataset_id": "Data set",
    "source": "Address",
    "amount": "Budget",
    "method": "Method",
    "proxy": "Proxy model",
    "name": "Name",
    "priority": "Priority",
    "seed": "Seed",
    "deadline": "Deadline",
    "conflict_penalty": "Conflict penalty",
    "alpha": "Fisher scale",
    "stop_ratio": "Stop ratio",
    "sketch_dim": "Sketch",
    "max_length": "Longest sequence",
    "loss": "Loss of a sample",
    "normalize": "Length of gradients",
}
"""What the fields are called in the list of everything that is wrong."""
MOST_MINUTES = 30 * 24 * 60
FIELD_OF = {"budget": "amount", "deadline_seconds": "deadline", "dataset_id": "dataset_id", "file": "file"}


@dataclass
class FormFields:
    """A form as it stands.

    Attributes:
        values: What is typed, by field.
        errors: What is wrong, by field; the form as a whole under an empty name.
    """

    values: dict[str, str]
    errors: dict[str, list[str]] = field(default_factory=dict)

    def refuse(self, name: str, detail: str) -> None:
        """Put an error beside a field."""
        said = self.errors.setdefault(name, [])
        if detail not in said:
            said.append(detail)

    def refuse_all(self, error: ServiceError | SpiceError) -> None:
        """Put what was refused beside the fields that its pointers name."""
        findings: Sequence[Mapping[str, Any]] = error.errors or [{"detail": error.detail}]
        for finding in findings:
            self.refuse(field_of(finding.get("pointer")), str(finding["detail"]))


def field_of(pointer: str | None) -> str:
    """The field that a JSON pointer of the request body stands for; empty where the form has none."""
    parts = (pointer or "").removeprefix("#").strip("/").split("/")
    name = parts[1] if parts[0] in {"selection", "gradients"} and len(parts) > 1 else parts[0]
    name = FIELD_OF.get(name, name)
    return name if name in {*FIELDS, "file"} else ""


def blank(proxy: str, once: str) -> FormFields:
    """An empty form with the usual settings.

    Args:
        proxy: The service's default proxy model.
        once: Makes a form that is sent twice one job.
    """
    selection, gradients = SelectionOptions(), GradientConfig()
    return FormFields(
        {
            "amount": "10",
            "unit": "percent",
            "method": selection.method,
            "proxy": proxy,
            "priority": "0",
            "once": once,
            **_shown(selection.model_dump(), SELECTION_NUMBERS),
            **_shown(gradients.model_dump(), (*GRADIENT_NUMBERS, *GRADIENT_WORDS)),
        }
    )


def clone(job: JobRead, once: str) -> FormFields:
    """The form of another job, to change the budget of; settings without a field are kept by its id."""
    selection: dict[str, Any] = job.config.get("selection") or {}
    budget = selection.get("budget") or {}
    if budget.get("fraction") is not None:
        amount, unit = f"{100 * budget['fraction']:.10g}", "percent"
    else:
        unit = "tokens" if budget.get("tokens") is not None else "count"
        amount = str(budget.get(unit) or "")
    return FormFields(
        {
            "dataset_id": job.dataset_id,
            "amount": amount,
            "unit": unit,
            "method": str(selection.get("method") or ""),
            "proxy": str((job.config.get("proxy") or {}).get("model") or ""),
            "name": job.name or "",
            "priority": str(job.priority),
            "once": once,
            "like": job.id,
            **_shown(selection, SELECTION_NUMBERS),
            **_shown(job.config.get("gradients") or {}, (*GRADIENT_NUMBERS, *GRADIENT_WORDS)),
        }
    )


def _shown(settings: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    values = {name: settings.get(name) for name in names}
    return {
        name: "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)
        for name, value in values.items()
    }


def number(draft: FormFields, name: str, kind: str | None = None) -> int | float | None:
    """The number in a field; None when it is empty or none, which is then said beside it.

    Args:
        draft: The form.
        name: The field.
        kind: Field whose numbers it takes, where that is another.
    """
    text = draft.values.get(name, "").strip().replace(",", "")
    if not text:
        return None
    whole = (kind or name) in WHOLE
    with suppress(ValueError, OverflowError):
        value = int(text) if whole else float(text)
        if math.isfinite(value):
            return value
    draft.refuse(name, f"\u201c{text[:40]}\u201d is not {'a whole number' if whole else 'a number'}")
    return None


def request_of(draft: FormFields, like: JobRead | None) -> JobCreate | None:
    """The request that the form stands for; None when something is wrong, which is then said in the draft.

    Args:
        draft: The form.
        like: The job it was made from, whose other settings are kept.
    """
    values = draft.values
    selection: dict[str, Any] = {}
    gradients: dict[str, Any] = {}
    body: dict[str, Any] = {"dataset_id": values.get("dataset_id", ""), "selection": selection, "gradients": gradients}
    if like is not None:
        # Settings of a newer release are kept as well, and refused by name: without one it would be another job.
        config = {name: value for name, value in like.config.items() if name not in {"proxy", "preset"}}
        selection |= {name: value for name, value in config.pop("selection", {}).items() if name != "budget"}
        gradients |= config.pop("gradients", {})
        # Named even where there is none, or the default would be taken for it.
        body |= {
            "preset": like.config.get("preset"),
            "metadata": like.metadata,
            **config.pop("conditions", {}),
            **config,
        }
    unit = values.get("unit", "")
    if unit not in UNITS:
        draft.refuse("amount", "choose what the budget counts")
    amount = number(draft, "amount", "percent" if unit == "percent" else "count")
    if amount is None or "amount" in draft.errors:
        if "amount" not in draft.errors:
            draft.refuse("amount", "say how much to choose")
        body["budget"] = {"count": 1}  # so that whatever else is wrong is said at the same time
    elif unit == "percent" and not 0 < amount <= 100:
        draft.refuse("amount", "this should be more than 0 and at most 100 %")
        body["budget"] = {"count": 1}
    else:
        body["budget"] = {"fraction": amount / 100} if unit == "percent" else {unit: amount}
    for name in SELECTION_NUMBERS:
        selection[name] = number(draft, name)
    for name in GRADIENT_NUMBERS:
        gradients[name] = number(draft, name)
    for name in ("conflict_penalty", "alpha", "max_length"):
        target = gradients if name in gradients else selection
        if target[name] is None:
            # An empty field means the usual value; where empty has a meaning of its own it stays.
            del target[name]
    gradients |= {name: values[name] for name in GRADIENT_WORDS if values.get(name)}
    if values.get("method"):
        selection["method"] = values["method"]
    proxy = values.get("proxy", "").strip()
    if proxy:
        kept = like.config.get("proxy") or {} if like is not None else {}
        body["proxy"] = {**(kept if kept.get("model") == proxy else {}), "model": proxy}
    if values.get("name", "").strip():
        body["name"] = values["name"].strip()
    seed = number(draft, "seed")
    if seed is not None:
        selection["seed"] = gradients["seed"] = seed
    body["priority"] = number(draft, "priority") or 0
    minutes = number(draft, "deadline")
    if minutes is not None and not 0 < minutes <= MOST_MINUTES:
        draft.refuse("deadline", f"this should be more than 0 and at most {MOST_MINUTES:,} minutes")
    elif minutes is not None:
        body["deadline_seconds"] = 60 * minutes
    return accepted(draft, JobCreate, body, field_of)


def accepted(
    draft: FormFields, model: type[Body], body: dict[str, Any], field_named: Callable[[str | None], str]
) -> Body | None:
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
            draft.refuse(field_named(finding.get("pointer")), finding["detail"].replace("Input should", "this should"))
        return None
