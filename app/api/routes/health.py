"""``/livez``, ``/readyz``, ``/v1/version`` and the pages behind problem types."""

from __future__ import annotations

import html

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from app.api.middleware import StrictRoute
from app.api.schemas.health import LiveRead, ReadyRead, VersionRead
from app.errors import PROBLEMS, NotFoundError, ServiceError
from app.services.health import Health
from spice_select.version import GRADIENT_FORMAT, __version__

router = APIRouter(tags=["service"], route_class=StrictRoute)


@router.get("/livez")
async def live() -> LiveRead:
    """Whether the process answers; looks at nothing else, and waits for no thread that others hold."""
    return LiveRead()


@router.get("/readyz")
def ready(request: Request, response: Response) -> ReadyRead:
    """Whether requests can be served: the database answers, its migrations are at the head, and its columns are ours.

    Raises:
        ServiceError: ``not-ready`` when not.
    """
    health: Health = request.app.state.services.health
    checks = health.checks()
    failing = {name: reason for name, reason in checks.items() if reason is not None}
    if failing:
        errors = [{"detail": f"{name}: {reason}"} for name, reason in failing.items()]
        raise ServiceError(
            "not-ready", "; ".join(e["detail"] for e in errors), errors=errors, headers={"Retry-After": "2"}
        )
    response.headers["Cache-Control"] = "no-store"
    return ReadyRead(checks=dict.fromkeys(checks, "ok"))


@router.get("/v1/version")
def version(request: Request) -> VersionRead:
    """Versions of the code, the API and the database schema."""
    health: Health = request.app.state.services.health
    return VersionRead(version=__version__, api="v1", schema=health.tables.head, gradient_format=GRADIENT_FORMAT)


@router.get("/problems/{slug}", response_class=HTMLResponse)
def problem_page(slug: str) -> str:
    """What a problem type means.

    Raises:
        NotFoundError: There is no such problem type.
    """
    problem = PROBLEMS.get(slug)
    if problem is None:
        raise NotFoundError(f"problem {slug[:100]}")
    again = "The same request may succeed later." if problem.retryable else "Repeating the same request will not help."
    title, meaning = html.escape(problem.title), html.escape(problem.meaning)
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><h1>{title}</h1>"
        f"<p><code>{html.escape(slug)}</code>, HTTP {problem.status}</p><p>{meaning}</p><p>{again}</p></html>"
    )
