"""``/metrics``: for Prometheus. Tells of no project, and is to be reached by operators only."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.services.metrics import ProcessMetrics

router = APIRouter(tags=["service"])


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request) -> Response:
    """Metrics of the service and of this process."""
    metrics: ProcessMetrics = request.app.state.services.metrics
    return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"})
