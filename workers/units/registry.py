"""Every kind of unit and its handler."""

from __future__ import annotations

from typing import Any

from app.status import UnitKind
from workers.units.evaluation import EvaluationRows
from workers.units.evaluation_plan import EvaluationPlanHandler
from workers.units.evaluation_report import EvaluationReportHandler
from workers.units.evaluation_training import EvaluationTrainingHandler
from workers.units.gradients import GradientsHandler
from workers.units.handler import UnitHandler
from workers.units.ingest import IngestHandler
from workers.units.prefilter import PrefilterHandler
from workers.units.resources import Resources
from workers.units.select import SelectHandler
from workers.units.select_part import SelectPartHandler
from workers.units.warmup import WarmupHandler


def make_handlers(resources: Resources) -> dict[UnitKind, UnitHandler[Any, Any]]:
    """The handlers of one process, by kind.

    Args:
        resources: What they share.
    """
    rows = EvaluationRows(resources)
    handlers: list[UnitHandler[Any, Any]] = [
        IngestHandler(resources),
        WarmupHandler(resources),
        PrefilterHandler(resources),
        GradientsHandler(resources),
        SelectPartHandler(resources),
        SelectHandler(resources),
        EvaluationPlanHandler(resources, rows),
        EvaluationTrainingHandler(resources, rows),
        EvaluationReportHandler(resources, rows),
    ]
    return {handler.kind: handler for handler in handlers}
