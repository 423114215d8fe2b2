"""Bodies of requests, from what a caller passes: data sets, jobs, evaluations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel

from spice_select.client.budget import BudgetLike, parse_budget
from spice_select.config import Budget, Conditions
from spice_select.errors import ConfigError
from spice_select.ingest.source_urls import AnySource

SourceLike: TypeAlias = str | Mapping[str, Any] | AnySource
"""Where a data set lies: an address such as ``hf://datasets/ORG/NAME@REVISION`` or ``s3://BUCKET/KEY``, or fields."""

JOB_FIELDS = frozenset(
    {"preset", "method", "proxy", "gradients", "selection", "seed", "deadline_seconds", "priority", "name", "metadata"}
    | {"parent", "schedule"}
    | Conditions.model_fields.keys()
)
EVALUATION_FIELDS = frozenset(
    {"holdout_dataset_id", "model", "group", "max_length", "name", "metadata"}
    | {"training", "seeds", "seed", "controls", "plantings", "confidence"}
)


ROLES = frozenset({"targets", "protect"})
"""Fields of a job that hold sets of rows under names."""


def named_rows(role: str, name: str, value: Any) -> dict[str, Any]:
    """A target or a protected set, as the service takes it.

    Args:
        role: ``targets`` or ``protect``.
        name: Its name.
        value: Id of a data set (``ds_...``), rows, a file of rows as JSON Lines or a JSON array, or the set's fields.

    Raises:
        ConfigError: A file that is not there or holds something else.
    """
    if isinstance(value, Mapping):
        return {"name": name, **value}
    if isinstance(value, str) and value.startswith("ds_"):
        return {"name": name, "dataset_id": value}
    if not isinstance(value, str | Path):
        return {"name": name, "rows": list(value)}
    try:
        text = Path(value).read_text(encoding="utf-8-sig")
        rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(x) for x in text.splitlines() if x]
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{name!r} is to be read from {str(value)!r}: {error}; of other files than JSON Lines and JSON make a data "
            "set and name its id",
            pointer=f"#/{role}",
        ) from error
    return {"name": name, "rows": rows}


def job_body(budget: BudgetLike, config: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """The body of a job.

    Args:
        budget: How much to select.
        config: Any of ``JOB_FIELDS``.
        **fields: ``dataset_id``.
    """
    _refuse_unknown(config, JOB_FIELDS, "a job")
    for role in ROLES & config.keys():
        if isinstance(config[role], Mapping):
            config = {**config, role: [named_rows(role, name, value) for name, value in config[role].items()]}
    body = as_json({**fields, "budget": parse_budget(budget), **config, "proxy": _named(config.get("proxy"))})
    # None of a preset is not the same as none given: it asks for the settings as they are.
    return {**body, "preset": None} if "preset" in config and config["preset"] is None else body


def evaluation_body(job_id: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The body of an evaluation.

    Args:
        job_id: A job with a result.
        config: Any of ``EVALUATION_FIELDS``.
    """
    _refuse_unknown(config, EVALUATION_FIELDS, "an evaluation")
    return as_json({"job_id": job_id, **config, "model": _named(config.get("model"))})


def form_fields(fields: Mapping[str, Any]) -> dict[str, str]:
    """Fields of a multipart form: mappings as JSON."""
    return {
        name: json.dumps(value) if isinstance(value, dict) else str(value) for name, value in as_json(fields).items()
    }


def as_json(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that have a value, as JSON; of models only what was set, so that the service's defaults hold."""
    return {name: _plain(value) for name, value in fields.items() if value is not None}


def if_match(version: int | None, *, weak: bool = False) -> dict[str, str]:
    """The header that makes a change depend on a version."""
    return {} if version is None else {"If-Match": f'{"W/" if weak else ""}"{version}"'}


def _plain(value: Any) -> Any:
    if isinstance(value, Budget):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    return dict(value) if isinstance(value, Mapping) else value


def _named(model: Any) -> Any:
    return {"model": model} if isinstance(model, str) else model


def _refuse_unknown(config: Mapping[str, Any], known: frozenset[str], what: str) -> None:
    unknown = sorted(set(config) - known)
    if unknown:
        raise ConfigError(
            f"{what} has no field {unknown[0]!r}; it has {', '.join(sorted(known))}", pointer=f"#/{unknown[0]}"
        )
