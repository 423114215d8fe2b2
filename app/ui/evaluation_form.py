"""Asking on the page of a job whether its choice trains better, and giving that up."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from app.api import deps
from app.api.routes.evaluations import evaluation_request, request_digest
from app.errors import ServiceError
from app.ids import new_id
from app.services.access.keys import Caller
from app.services.evaluations.service import EvaluationService
from app.ui.auth import SameOrigin, Visitor
from app.ui.evaluation_fields import LABELS, blank, field_of, request_of
from app.ui.form_fields import FormFields
from app.ui.job_page import JobPage, JobPageData
from app.ui.pages import page
from spice_select.errors import SpiceError

router = APIRouter(include_in_schema=False)


@router.get("/ui/jobs/{job_id}/evaluate")
def evaluation_form(job_id: str, visitor: Visitor, job_page: JobPage) -> Response:
    """The form of an evaluation."""
    return _form(job_id, visitor, job_page, blank(new_id("page")))


@router.post("/ui/jobs/{job_id}/evaluations", dependencies=[SameOrigin])
async def ask(
    request: Request, job_id: str, visitor: Visitor, job_page: JobPage, services: deps.ServicesDep
) -> Response:
    """Queue an evaluation of what the job chose, or show again what was typed with what is wrong."""
    form = await request.form(max_files=0, max_fields=20, max_part_size=4096)
    draft = FormFields({name: text for name in (*LABELS, "once") if isinstance(text := form.get(name), str)})
    return await run_in_threadpool(_ask, job_id, visitor, job_page, services.evaluations, draft)


def _ask(
    job_id: str, visitor: Caller, job_page: JobPageData, service: EvaluationService, draft: FormFields
) -> Response:
    asked = request_of(draft, job_id)
    if asked is not None:
        digest = request_digest(asked)
        # Sent twice, it is one evaluation; changed and sent again, it is another.
        key = f"{draft.values.get('once', '')[:60] or new_id('page')}-{digest}"
        try:
            service.create(visitor.project_id, evaluation_request(asked), key=key, body=digest)
            return RedirectResponse(f"/ui/jobs/{job_id}#evaluations", 303)
        except (ServiceError, SpiceError) as error:
            draft.refuse_all(error, field_of)
    return _form(job_id, visitor, job_page, draft)


def _form(job_id: str, visitor: Caller, job_page: JobPageData, draft: FormFields) -> Response:
    job = job_page.services.jobs.get(visitor.project_id, job_id).job
    return page(
        "evaluate.html",
        http_status=422 if draft.errors else 200,
        visitor=visitor,
        job=job,
        draft=draft,
        labels=LABELS,
        holdouts=job_page.holdouts(visitor, job),
    )


@router.post("/ui/evaluations/{evaluation_id}/cancel", dependencies=[SameOrigin])
def cancel(evaluation_id: str, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """Give an evaluation up."""
    view = services.evaluations.cancel(visitor.project_id, evaluation_id)
    return RedirectResponse(f"/ui/jobs/{view.evaluation.job_id}#evaluations", 303)
