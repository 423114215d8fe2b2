"""The project: what it holds and may hold, and what happened in it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.api import deps
from app.services.quotas import WORDS
from app.ui.auth import Visitor
from app.ui.pages import page

router = APIRouter(include_in_schema=False)

EVENTS = 50


@router.get("/ui/settings")
def settings(
    visitor: Visitor, services: deps.ServicesDep, before: Annotated[int | None, Query(ge=1, le=2**53)] = None
) -> Response:
    """The project, its quotas and its history, newest first."""
    project, quotas, events = services.project_overview.of(visitor.project_id, before=before, events=EVENTS + 1)
    return page(
        "settings.html",
        visitor=visitor,
        project=project,
        quotas={name: (WORDS[name], quota) for name, quota in quotas.items()},
        events=events[:EVENTS],
        before=before,
        older=events[EVENTS - 1].id if len(events) > EVENTS else None,
        asks_for_keys=services.settings.auth == "keys",
    )
