"""What a person does with a job that is there: cancel, delete, rename, tag."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from app.api import deps
from app.api.schemas.jobs import JobUpdate
from app.errors import ServiceError
from app.services.jobs.retries import retry
from app.ui.auth import SameOrigin, Visitor
from app.ui.form_fields import FormFields, accepted, pairs
from app.ui.job_page import JobPage
from app.ui.pages import page

router = APIRouter(include_in_schema=False)


@router.post("/ui/jobs/{job_id}/cancel", dependencies=[SameOrigin])
def cancel(job_id: str, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """Stop a job."""
    services.jobs.cancel(visitor.project_id, job_id)
    return RedirectResponse(f"/ui/jobs/{job_id}", 303)


@router.post("/ui/jobs/{job_id}/retry", dependencies=[SameOrigin])
def try_again(
    job_id: str, visitor: Visitor, services: deps.ServicesDep, once: Annotated[str, Form(max_length=60)] = ""
) -> Response:
    """Queue a job again, and show the new one; a form that is sent twice makes one."""
    view, _ = retry(services.jobs, visitor.project_id, job_id, key=once or None)
    return RedirectResponse(f"/ui/jobs/{view.job.id}", 303)


@router.post("/ui/jobs/{job_id}/delete", dependencies=[SameOrigin])
def delete(request: Request, job_id: str, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """Take a job that has ended away, and show those that are left."""
    services.jobs.delete(visitor.project_id, job_id, None)
    if "hx-request" in request.headers:
        return Response(headers={"HX-Redirect": "/ui"})  # a page of its own, not one inside the page
    return RedirectResponse("/ui", 303)


@router.post("/ui/jobs/{job_id}/edit", dependencies=[SameOrigin])
def edit(
    job_id: str,
    visitor: Visitor,
    services: deps.ServicesDep,
    job_page: JobPage,
    form: Annotated[str, Form(max_length=40)] = "",
    name: Annotated[str, Form(max_length=1000)] = "",
    tags: Annotated[str, Form(max_length=20_000)] = "",
) -> Response:
    """Change name and tags, or show again what was typed with what is wrong.

    The form says what it is: a body that was cut short must not read as a name and tags that were emptied.

    Raises:
        ServiceError: ``validation-error``: the body is not that of the form.
    """
    draft = FormFields({"name": name, "tags": tags})
    had = services.jobs.get(visitor.project_id, job_id).job.metadata_
    if form != "name-and-tags":
        raise ServiceError("validation-error", "the body is not that of the form for name and tags", pointer="#/form")
    try:
        metadata = {**dict.fromkeys(had), **pairs(tags)}
    except ValueError as error:
        draft.refuse("tags", str(error))
        metadata = {}
    body = {"name": name.strip() or None, "metadata": metadata}
    asked = accepted(draft, JobUpdate, body, _field_of)
    if asked is not None:
        try:
            services.jobs.edit(visitor.project_id, job_id, asked.values(), asked.pairs(), None)
            return RedirectResponse(f"/ui/jobs/{job_id}", 303)
        except ServiceError as error:
            draft.refuse_all(error, _field_of)
    return page("job.html", http_status=422, **job_page.job(visitor, job_id, about=draft))


def _field_of(pointer: str | None) -> str:
    return "tags" if (pointer or "").startswith("#/metadata") else "name"
