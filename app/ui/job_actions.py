"""What a person does with a job that is there: cancel, delete, rename, tag."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from app.api import deps
from app.ui.auth import SameOrigin, Visitor

router = APIRouter(include_in_schema=False)


@router.post("/ui/jobs/{job_id}/cancel", dependencies=[SameOrigin])
def cancel(job_id: str, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """Stop a job."""
    services.jobs.cancel(visitor.project_id, job_id)
    return RedirectResponse(f"/ui/jobs/{job_id}", 303)


@router.post("/ui/jobs/{job_id}/delete", dependencies=[SameOrigin])
def delete(request: Request, job_id: str, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """Take a job that has ended away, and show those that are left."""
    services.jobs.delete(visitor.project_id, job_id, None)
    if "hx-request" in request.headers:
        return Response(headers={"HX-Redirect": "/ui"})  # a page of its own, not one inside the page
    return RedirectResponse("/ui", 303)
