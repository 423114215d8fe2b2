"""The form of a new job as a whole, and the request that it stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from app.api.schemas.jobs import JobCreate
from app.ui import budget_fields, pool_fields, setting_fields, target_fields
from app.ui.form_fields import FormFields, accepted
from app.ui.target_fields import NAME

FIELDS = (*pool_fields.FIELDS, *budget_fields.FIELDS, "preset", "proxy", "name", "extra", "once", "like")
"""Names of the fields beside those of targets and settings, apart from the files."""
TARGETS = {"targets": "target", "protect": "protect"}
"""Parts of a request that are lists of sets of rows, and what the names of their fields begin with."""
PRESETS = {
    "recommended": "What was measured best here; rows that repeat others or stand out as broken leave first.",
    "paper": "The method as it was published.",
    "none": "Every setting as it is on its own.",
}
LABELS = {
    "file": "File",
    "dataset_id": "Data set",
    "source": "Address",
    "amount": "Budget",
    "preset": "How",
    "proxy": "Model",
    "name": "Name",
    "extra": "Anything else",
}


def is_field(name: str) -> bool:
    """Whether the form has a field of this name."""
    return name in FIELDS or name in setting_fields.settings() or NAME.fullmatch(name) is not None


def label(name: str) -> str:
    """What a field is called in the list of everything that is wrong."""
    setting = setting_fields.settings().get(name)
    return setting.label if setting is not None else target_fields.label(name) or LABELS.get(name, name)


def field_of(draft: FormFields, pointer: str | None) -> str:
    """The field that a JSON pointer of the request body stands for; empty where the form has none."""
    parts = [part for part in (pointer or "").removeprefix("#").split("/") if part]
    if not parts:
        return ""
    own = {"budget": "amount", "dataset_id": "dataset_id", "file": "file", "name": "name", "preset": "preset"}
    if parts[0] in TARGETS:
        return target_fields.field_at(draft, parts[1:], TARGETS[parts[0]])
    found = own.get(parts[0]) or (
        "proxy" if parts[:2] in (["proxy"], ["proxy", "model"]) else setting_fields.field_at(parts)
    )
    return found or ("extra" if draft.text("extra") else "")


def blank(proxy: str, once: str) -> FormFields:
    """An empty form.

    Args:
        proxy: The service's default proxy model.
        once: Makes a form that is sent twice one job.
    """
    usual = {"amount": "10", "unit": "percent", "preset": "recommended", "proxy": proxy, "once": once}
    return FormFields(usual)


def request_of(draft: FormFields) -> JobCreate | None:
    """The request that the form stands for; None when something is wrong, which is then said in the draft."""
    dataset_id = draft.text("dataset_id")
    if not dataset_id and not {"dataset_id", "file", "source"} & draft.errors.keys():
        draft.refuse("dataset_id", "Choose a data set or a file.")
    # Of an empty id the validator would say that a text has no character.
    body: dict[str, Any] = {"dataset_id": dataset_id or "none", "budget": budget_fields.read(draft)}
    for part, prefix in TARGETS.items():
        if given := target_fields.read(draft, prefix):
            body[part] = given
    preset = draft.text("preset")
    if preset == "none" or preset == "paper":
        body["preset"] = None if preset == "none" else preset
    elif preset not in {"", "recommended"}:
        draft.refuse("preset", "choose one of these")
    setting_fields.read(draft, body)
    if draft.text("proxy"):
        body["proxy"] = {"model": draft.text("proxy"), **body.get("proxy", {})}
    if draft.text("name"):
        body["name"] = draft.text("name")
    if draft.text("extra"):
        _merge_extra(draft, body)
    return accepted(draft, JobCreate, body, lambda pointer: field_of(draft, pointer))


def _merge_extra(draft: FormFields, body: dict[str, Any]) -> None:
    """Put what is given as JSON beside what the fields say; a setting that is given twice is refused."""
    try:
        extra = json.loads(draft.text("extra"))
    except ValueError as error:
        draft.refuse("extra", f"this is not JSON: {error}")
        return
    if not isinstance(extra, dict):
        draft.refuse("extra", "this is not a JSON object")
    elif twice := _merge(body, extra, ""):
        draft.refuse("extra", f"{twice} has a field in this form and is given here as well")


def _merge(into: dict[str, Any], extra: Mapping[str, Any], within: str) -> str:
    """Merge, and the first place that both have."""
    for name, value in extra.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            if twice := _merge(into[name], value, f"{within}{name}."):
                return twice
        elif name in into:
            return f"{within}{name}"
        else:
            into[name] = value
    return ""
