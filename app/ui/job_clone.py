"""The form of a job that is there, to make it again with another budget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from app.api.schemas.jobs import JobCreate, JobRead
from app.ui import budget_fields, setting_fields, target_fields
from app.ui.form_fields import FormFields
from spice_select.config import ProxyConfig

DECIDES = ("method", "information", "scope")
"""What of ``selection`` decides, beside the schedule, which settings a preset fills in."""


def clone(job: JobRead, once: str) -> FormFields:
    """The form of a job: its fields show what the preset does not fill in by itself.

    What no field can say is kept as JSON, where it can be read and changed.

    Args:
        job: The job.
        once: Makes a form that is sent twice one job.
    """
    body = without_usual(body_of(job))
    model = dict(body.pop("proxy", {}))
    values = {
        "dataset_id": str(body.pop("dataset_id")),
        "name": str(body.pop("name", "")),
        "proxy": str(model.pop("model", "")),
        "preset": "recommended",
        "once": once,
        "like": job.id,
        **budget_fields.write(body.pop("budget")),
        **target_fields.write(body.pop("targets", [])),
        **target_fields.write(body.pop("protect", []), "protect"),
    }
    if body.get("preset", "") in {None, "paper"}:
        values["preset"] = body.pop("preset") or "none"
    if model:
        body["proxy"] = model
    values |= setting_fields.take(body)
    if body:
        values["extra"] = json.dumps(body, ensure_ascii=False, indent=1)
    return FormFields(values)


def body_of(job: JobRead) -> dict[str, Any]:
    """The request that makes a job again, every setting said."""
    config = {name: dict(part) if isinstance(part, dict) else part for name, part in job.config.items()}
    selection, gradients = config.pop("selection", {}), config.pop("gradients", {})
    budget, conditions = selection.pop("budget", {}), config.pop("conditions", {})
    body = {
        "dataset_id": job.dataset_id,
        "budget": _given(budget),
        "preset": config.pop("preset", None),
        "selection": selection,
        "gradients": gradients,
        **conditions,
        **config,
        "priority": job.priority,
        "metadata": job.metadata,
    }
    body["proxy"] = _given(config.get("proxy") or {})
    for part in ("targets", "protect"):
        body[part] = [_given(target) for target in conditions.get(part) or []]
    if selection.get("seed") == gradients.get("seed"):
        body["seed"] = selection.pop("seed", 0)
        gradients.pop("seed", None)
    about: dict[str, Any] = {"name": job.name, "parent": job.parent and _given(job.parent)}
    if job.deadline_at is not None:
        about["deadline_seconds"] = (job.deadline_at - job.created_at).total_seconds()
    return body | _given(about)


def without_usual(body: dict[str, Any]) -> dict[str, Any]:
    """What of a request has to be said: the rest follows from the preset and from the settings' own defaults.

    One that this release cannot read stays as it is.
    """
    parts = ("dataset_id", "budget", "proxy", "targets", "protect", "target_dataset_id", "schedule")
    base = {name: body[name] for name in parts if body.get(name)}
    base["selection"] = {name: body["selection"][name] for name in DECIDES if name in body["selection"]}
    try:
        by_default, usual = _resolved(base), _resolved({**base, "preset": body["preset"]})
        plain = _resolved({"dataset_id": "-", "budget": {"count": 1}})
    except ValidationError:
        return body
    if by_default["preset"] != body["preset"]:
        del usual["preset"]
    usual["selection"] |= {name: plain["selection"][name] for name in DECIDES}
    usual["schedule"] = plain["schedule"]
    usual |= {"targets": None, "protect": None}  # have fields of their own
    return _different(body, {**usual, "priority": 0, "metadata": {}, "seed": 0})


def _resolved(body: dict[str, Any]) -> dict[str, Any]:
    """The settings that a request comes to, in the places of a request."""
    asked = JobCreate.model_validate_json(json.dumps(body))
    config: dict[str, Any] = asked.run_config(asked.proxy or ProxyConfig()).model_dump(mode="json")
    del config["selection"]["budget"], config["proxy"]
    return {**config, **config.pop("conditions")}


def _different(body: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """What is not as usual; in parts of parts, but a scope and a schedule as a whole."""
    found: dict[str, Any] = {}
    for name, value in body.items():
        if name in usual and value == usual[name]:
            continue
        inner = usual.get(name)
        if name in {"scope", "schedule"} or not isinstance(value, dict) or not isinstance(inner, dict):
            found[name] = value
        elif left := _different(value, inner):
            found[name] = left
    return found


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
