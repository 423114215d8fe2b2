"""What the page of a job shows, from the services."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from app.api import serializers
from app.api.problems import base_url
from app.api.services import Services
from app.ids import new_id
from app.persistence.tables import Dataset, Job
from app.services.access.keys import Caller
from app.services.jobs.service import Filters
from app.status import ACTIVE, EVALUATING, DatasetStatus
from app.ui.evaluation_fields import LABELS, blank
from app.ui.evaluation_view import VERDICTS, forest
from app.ui.form_fields import FormFields
from app.ui.plots import POINTS, Plot, group_shares, length_shares, plots, table
from app.ui.snippets import uses

EXCERPTS = 3
EVENTS = 100
EVALUATIONS = 5
MOST_HOLDOUTS = 100


class JobPageData:
    """What the templates of a job need.

    Args:
        request: For the services of this process and the address of links.
    """

    def __init__(self, request: Request) -> None:
        self.services: Services = request.app.state.services

    def job(
        self, request: Request, visitor: Caller, job_id: str, *, evaluation_form: FormFields | None = None
    ) -> dict[str, Any]:
        """A job, and its result where it has one; text of rows only for whoever may read the files it is in.

        Args:
            request: For the addresses of links.
            visitor: Who looks.
            job_id: The job.
            evaluation_form: The form of a new evaluation as it was typed; an empty one when None.
        """
        project = visitor.project_id
        view = self.services.jobs.get(project, job_id)
        job = serializers.job_read(request, view)
        values: dict[str, Any] = {"job": job, "ended": view.job.status not in ACTIVE}
        if values["ended"]:
            values["events"] = self.services.events.page(project, job_id=job_id, after=0, limit=EVENTS)
            if job.result is not None:
                values |= self._result(project, job_id, job.result, job.config.get("selection") or {})
                values |= self.evaluations(request, project, job_id)
                if visitor.may("jobs:write"):
                    values |= {"evaluation_form": evaluation_form or blank(new_id("page")), "evaluation_labels": LABELS}
                    values["holdouts"] = self._holdouts(visitor, view.job)
                if visitor.may("files:read"):
                    values |= self._files(request, project, job_id, job.result["selected"])
        return values

    def evaluations(self, request: Request, project: str, job_id: str) -> dict[str, Any]:
        """The latest evaluations of a job's choice, each with its intervals as drawn."""
        views = self.services.evaluations.page(project, Filters(), job_id=job_id, before=None, limit=EVALUATIONS)
        return {
            "evaluations": [
                (serializers.evaluation_read(request, view), forest(view.evaluation.result or {})) for view in views
            ],
            "evaluations_live": any(view.evaluation.status in EVALUATING for view in views),
            "verdicts": VERDICTS,
        }

    def _holdouts(self, visitor: Caller, job: Job) -> list[Dataset]:
        """Data sets whose rows could be held out to evaluate a selection."""
        if not visitor.may("datasets:read"):
            return []
        views = self.services.datasets.page(
            visitor.project_id, Filters(status=DatasetStatus.READY), before=None, limit=MOST_HOLDOUTS
        )
        return [view.dataset for view in views if view.dataset.id != job.dataset_id]

    def plots(self, project: str, job_id: str) -> list[Plot]:
        """The plots of a job; none without a result."""
        job = self.services.jobs.get(project, job_id).job
        if job.result is None or job.status in ACTIVE:
            return []
        stretches = self.services.previews.stretches(project, job_id, job.result["selected"], POINTS)
        return plots(stretches, job.result, job.config.get("selection") or {})

    def _result(self, project: str, job_id: str, result: dict[str, Any], selection: dict[str, Any]) -> dict[str, Any]:
        stretches = self.services.previews.stretches(project, job_id, result["selected"], POINTS)
        composition = result.get("composition") or {}
        return {
            "plots": plots(stretches, result, selection),
            "rows": table(stretches),
            "lengths": length_shares(composition),
            "groups": group_shares(composition, result["selected"], result["pool"]),
        }

    def _files(self, request: Request, project: str, job_id: str, selected: int) -> dict[str, Any]:
        first, last = self.services.previews.excerpts(project, job_id, selected, EXCERPTS)
        return {
            "files": self.services.reader.files(project, job_id),
            "first_picks": first,
            "last_picks": last,
            "uses": uses(base_url(request), job_id, keys=self.services.settings.auth == "keys"),
        }


def job_page_data(request: Request) -> JobPageData:
    """For routes."""
    return JobPageData(request)


JobPage = Annotated[JobPageData, Depends(job_page_data)]
