"""Stored settings to act upon, perhaps those of a newer release: an upgrade is under way, or was taken back.

They must be understood whole: a setting that is left out could change the result. What is only shown is never refused
(``app.api.schemas.fields.as_shown``).
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from app.errors import ServiceError

Settings = TypeVar("Settings", bound=BaseModel)

NAMED = 5
"""Settings that an error names."""


def understood(model: type[Settings], stored: dict[str, Any], owner: str) -> Settings:
    """Stored settings to act upon.

    Args:
        model: How this release knows them.
        stored: What was written down.
        owner: Whose they are, for the error.

    Raises:
        ServiceError: ``newer-settings``.
    """
    try:
        return model.model_validate(stored)
    except ValidationError as error:
        names = [".".join(str(part) for part in finding["loc"]) or "all" for finding in error.errors(include_url=False)]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        detail = f"{owner} has settings of a newer release that this one cannot read: {', '.join(names[:NAMED])}{more}"
        raise ServiceError("newer-settings", detail, headers={"Retry-After": "30"}) from error
