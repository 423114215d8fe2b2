"""``/v1/estimates``: what a job or an evaluation would take, without making one."""

from __future__ import annotations

from fastapi import APIRouter

from app.api import deps
from app.api.middleware import StrictRoute
from app.api.routes.evaluations import evaluation_request
from app.api.routes.jobs import job_request
from app.api.schemas.estimates import EstimateRead
from app.api.schemas.evaluations import EvaluationCreate, EvaluationEstimateRead
from app.api.schemas.jobs import JobCreate

router = APIRouter(prefix="/v1/estimates", tags=["jobs"], route_class=StrictRoute)


@router.post("")
def estimate_job(body: JobCreate, project: deps.Project, services: deps.ServicesDep) -> EstimateRead:
    """What a job with this body would take, and whether it fits; nothing is made."""
    return EstimateRead.model_validate(services.jobs.estimate(project, job_request(body)))


@router.post("/evaluations", tags=["evaluations"])
def estimate_of_evaluation(
    body: EvaluationCreate, project: deps.Project, services: deps.ServicesDep
) -> EvaluationEstimateRead:
    """What an evaluation with this body would take; nothing is made."""
    return EvaluationEstimateRead.model_validate(services.evaluations.estimate(project, evaluation_request(body)))
