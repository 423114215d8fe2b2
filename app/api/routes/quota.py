"""``/v1/quota``: what the caller's project holds, and may hold."""

from __future__ import annotations

from fastapi import APIRouter

from app.api import deps
from app.api.middleware import StrictRoute
from app.api.schemas.quota import QuotaRead
from app.services.quotas import Quotas

router = APIRouter(prefix="/v1", tags=["jobs"], route_class=StrictRoute)


@router.get("/quota")
def get_quota(project: deps.Project, services: deps.ServicesDep) -> QuotaRead:
    """Stored bytes, data sets and waiting work of the project, and how much of each it may have."""
    quotas: Quotas = services.jobs.quotas
    with services.jobs.database.read() as session:
        return QuotaRead.model_validate({name: each._asdict() for name, each in quotas.all(session, project).items()})
