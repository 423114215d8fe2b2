"""Everything that the page of a job shows, gathered from the services."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from app.api import render
from app.api.problems import base_url
from app.services.events import EventService
from app.services.jobs import JobService
from app.services.pictures import Pictures
from app.status import ACTIVE
from app.ui.plots import POINTS, Plot, group_shares, length_shares, plots, table
from app.ui.uses import uses

EXCERPTS = 3
EVENTS = 100


class Gathered:
    """What the templates of a job need.

    Args:
        request: For the services of this process and the address of links.
    """

    def __init__(self, request: Request) -> None:
        state = request.app.state
        self.jobs: JobService = state.jobs
        self.events: EventService = state.events
        self.pictures: Pictures = state.pictures
        self.keys: bool = state.settings.auth == "keys"

    def job(self, request: Request, project: str, job_id: str) -> dict[str, Any]:
        """A job, and its result where it has one."""
        view = self.jobs.get(project, job_id)
        job = render.job_read(request, view)
        values: dict[str, Any] = {"job": job, "ended": view.job.status not in ACTIVE}
        if values["ended"]:
            values["events"] = self.events.page(project, job_id=job_id, after=0, limit=EVENTS)
            if job.result is not None:
                values |= self._result(request, project, job_id, job.result, job.config.selection.model_dump())
        return values

    def plots(self, project: str, job_id: str) -> list[Plot]:
        """The plots of a job; none without a result."""
        job = self.jobs.get(project, job_id).job
        if job.result is None or job.status in ACTIVE:
            return []
        stretches = self.pictures.stretches(project, job_id, job.result["selected"], POINTS)
        return plots(stretches, job.result, job.config["selection"])

    def _result(
        self, request: Request, project: str, job_id: str, result: dict[str, Any], selection: dict[str, Any]
    ) -> dict[str, Any]:
        selected: int = result["selected"]
        stretches = self.pictures.stretches(project, job_id, selected, POINTS)
        first, last = self.pictures.excerpts(project, job_id, selected, EXCERPTS)
        composition = result.get("composition") or {}
        return {
            "files": self.jobs.files(project, job_id),
            "plots": plots(stretches, result, selection),
            "rows": table(stretches),
            "lengths": length_shares(composition),
            "groups": group_shares(composition, selected, result["pool"]),
            "first_picks": first,
            "last_picks": last,
            "uses": uses(base_url(request), job_id, keys=self.keys),
        }


def gathered(request: Request) -> Gathered:
    """For routes."""
    return Gathered(request)


Shelf = Annotated[Gathered, Depends(gathered)]
