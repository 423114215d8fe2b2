"""What the page of a job shows, from the services."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Query, Request

from app.api import serializers
from app.api.problems import base_url
from app.api.services import Services
from app.ids import new_id
from app.persistence.tables import Dataset, Job
from app.services.access.keys import Caller
from app.services.evaluations.service import EvaluationView
from app.services.jobs.service import Filters
from app.services.results.job_pages import JobPageFacts, PickFilter
from app.status import ACTIVE, EVALUATING, DatasetStatus
from app.ui.evaluation_view import VERDICTS, forest
from app.ui.form_fields import FormFields
from app.ui.plots import POINTS, group_shares, length_shares, plots, table
from app.ui.snippets import uses

PICKS = 20
"""Picks on a page of their table."""
EVENTS = 100
EVALUATIONS = 5
MOST_HOLDOUTS = 100


def wanted_picks(
    after: Annotated[int, Query(ge=0, le=2**31)] = 0,
    target: Annotated[str, Query(max_length=100)] = "",
    words: Annotated[str, Query(max_length=200)] = "",
) -> PickFilter:
    """Which picks the address asks for."""
    return PickFilter(after=after, limit=PICKS, target=target or None, words=words.strip())


WantedPicks = Annotated[PickFilter, Depends(wanted_picks)]


class JobPageData:
    """What the templates of a job need.

    Args:
        request: For the services of this process and the address of links.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.services: Services = request.app.state.services

    def job(
        self, visitor: Caller, job_id: str, wanted: PickFilter | None = None, *, about: FormFields | None = None
    ) -> dict[str, Any]:
        """A job, and its result where it has one; text of rows only for whoever may read the files it is in.

        Args:
            visitor: Who looks.
            job_id: The job.
            wanted: Which picks; the first when None.
            about: Name and tags as they were typed; as they are when None.
        """
        wanted = wanted or PickFilter(limit=PICKS)
        reads_files = visitor.may("files:read")
        facts = self.services.job_pages.of(
            visitor.project_id, job_id, wanted, with_text=reads_files, evaluations=EVALUATIONS
        )
        job = serializers.job_read(self.request, facts.view)
        tags = "\n".join(f"{name} = {value}" for name, value in job.metadata.items())
        values: dict[str, Any] = {
            "visitor": visitor,
            "job": job,
            "ended": facts.view.job.status not in ACTIVE,
            "dataset_name": facts.dataset.name if visitor.may("datasets:read") else None,
            "once": new_id("page"),
            "about": about or FormFields({"name": job.name or "", "tags": tags}),
        }
        if job.result is not None and values["ended"]:
            values |= self._result(job_id, job.result, facts, wanted) | self._evaluations(facts.evaluations)
            if reads_files:
                values["files"] = self.services.results.signed(visitor.project_id, job_id, facts.files)
                values["uses"] = uses(base_url(self.request), job_id, keys=self.services.settings.auth == "keys")
        return values

    def _result(self, job_id: str, result: dict[str, Any], facts: JobPageFacts, wanted: PickFilter) -> dict[str, Any]:
        composition = result.get("composition") or {}
        shared = {"target": wanted.target or "", "words": wanted.words}

        def address(after: int) -> str:
            given = {name: value for name, value in {**shared, "after": after or ""}.items() if value}
            return f"/ui/jobs/{job_id}" + (f"?{urlencode(given)}" if given else "")

        return {
            "by_target": sorted(facts.by_target, key=lambda share: -share.picks),
            "picks": facts.picks,
            "wanted": wanted,
            "next_picks": address(facts.picks[-1].sample.rank) if facts.more and facts.picks else None,
            "first_picks": address(0) if wanted.after else None,
            "lengths": length_shares(composition),
            "groups": group_shares(composition, result["selected"], result["pool"]),
        }

    def evaluations(self, visitor: Caller, job_id: str) -> dict[str, Any]:
        """The latest evaluations of a job's choice, for the part of the page that follows them."""
        project = visitor.project_id
        job = serializers.job_read(self.request, self.services.jobs.get(project, job_id))
        views = self.services.evaluations.page(project, Filters(), job_id=job_id, before=None, limit=EVALUATIONS)
        return {"visitor": visitor, "job": job, "ended": job.status not in ACTIVE, **self._evaluations(views)}

    def _evaluations(self, views: list[EvaluationView]) -> dict[str, Any]:
        """Evaluations, each with its intervals as drawn."""
        shown = [serializers.evaluation_read(self.request, view) for view in views]
        return {
            "evaluations": [(evaluation, forest(evaluation.result or {})) for evaluation in shown],
            "evaluations_live": any(view.evaluation.status in EVALUATING for view in views),
            "verdicts": VERDICTS,
            "compared": next((evaluation for evaluation in shown if evaluation.result), None),
        }

    def holdouts(self, visitor: Caller, job: Job) -> list[Dataset]:
        """Data sets whose rows could be held out to evaluate a selection."""
        if not visitor.may("datasets:read"):
            return []
        views = self.services.datasets.page(
            visitor.project_id, Filters(status=DatasetStatus.READY), before=None, limit=MOST_HOLDOUTS
        )
        return [view.dataset for view in views if view.dataset.id != job.dataset_id]

    def curves(self, project: str, job_id: str) -> dict[str, Any]:
        """The plots of a job and their table; empty without a result."""
        job = self.services.jobs.get(project, job_id).job
        if job.result is None or job.status in ACTIVE:
            return {"plots": [], "rows": []}
        stretches = self.services.previews.stretches(project, job_id, job.result["selected"], POINTS)
        return {"plots": plots(stretches, job.result, job.config.get("selection") or {}), "rows": table(stretches)}


def job_page_data(request: Request) -> JobPageData:
    """For routes."""
    return JobPageData(request)


JobPage = Annotated[JobPageData, Depends(job_page_data)]
