"""A job with everything that a person looks at, read in one transaction of a few statements."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.errors import NotFoundError
from app.persistence.repositories import Evaluations, Jobs, ListFilter
from app.persistence.session import Database
from app.persistence.tables import Dataset, File, SelectedSample
from app.services.evaluations.service import EvaluationView, views_of
from app.services.jobs.service import JobService, JobView, find_job
from app.services.results.reader import ResultReader
from app.status import ACTIVE
from spice_select.errors import RowError
from spice_select.records.conversation import shown
from spice_select.records.records import to_messages

SELECTED = "selected.jsonl"
MOST_FOUND = 2000
"""Picks that a search for words finds at a time."""


@dataclass(frozen=True)
class PickFilter:
    """Which picks are wanted.

    Attributes:
        after: Rank that they lie behind.
        limit: Most of them.
        target: Only those for this target.
        words: Only those whose record has these words, in either case.
    """

    after: int = 0
    limit: int = 20
    target: str | None = None
    words: str = ""


@dataclass(frozen=True)
class Pick:
    """A pick with its text.

    Attributes:
        sample: The evidence.
        turns: Role and text of each turn, or the whole record under the role ``record``; empty for whoever may not
            read the files.
    """

    sample: SelectedSample
    turns: list[tuple[str, str]]


@dataclass(frozen=True)
class TargetShare:
    """What was selected for a target.

    Attributes:
        name: The target.
        picks: Number of rows.
        tokens: Their tokens.
        relevance: Mean of their relevance.
    """

    name: str
    picks: int
    tokens: int
    relevance: float | None


@dataclass(frozen=True)
class JobPageFacts:
    """A job, and what came of it where it has a result.

    Attributes:
        view: The job.
        dataset: The data set that it selects from.
        picks: Picks, as they were wanted.
        more: Whether there are more behind them.
        by_target: What was selected for each target.
        files: Files of the result as they are stored.
        evaluations: The latest evaluations.
    """

    view: JobView
    dataset: Dataset
    picks: list[Pick] = field(default_factory=list)
    more: bool = False
    by_target: list[TargetShare] = field(default_factory=list)
    files: Sequence[File] = ()
    evaluations: list[EvaluationView] = field(default_factory=list)


class JobPages:
    """Jobs as the page shows them.

    Args:
        database: Where the records are.
        reader: Reads the files of results.
    """

    def __init__(self, database: Database, reader: ResultReader) -> None:
        self.database = database
        self.reader = reader

    def of(
        self, project_id: str, job_id: str, wanted: PickFilter, *, with_text: bool, evaluations: int
    ) -> JobPageFacts:
        """A job.

        Args:
            project_id: Owner.
            job_id: The job.
            wanted: Which picks.
            with_text: Whether the text of rows may be shown.
            evaluations: Most evaluations.

        Raises:
            NotFoundError: There is no such job in the project.
            ServiceError: ``artifact-corrupt`` or ``artifact-lost``, of the selected rows.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the reader
        with self.database.read() as session:
            jobs = Jobs(session)
            found = jobs.with_dataset(project_id, job_id)
            if found is None:
                raise NotFoundError(f"job {job_id}")
            job, dataset = found
            view = JobService.view(session, job)
            if job.status in ACTIVE or job.result is None:
                return JobPageFacts(view, dataset)
            files = jobs.files(job_id)
            text = next((file for file in files if file.name == SELECTED), None) if with_text else None
            path = None if text is None else self.reader.intact(project_id, job_id, text.name, text.sha256)
            ranks = _with_words(path, wanted) if wanted.words and path is not None else None
            picks = jobs.picks(job_id, after=wanted.after, limit=wanted.limit + 1, target=wanted.target, ranks=ranks)
            has_targets = bool((job.config.get("conditions") or {}).get("targets"))
            return JobPageFacts(
                view=view,
                dataset=dataset,
                picks=_with_text(picks[: wanted.limit], path, dataset),
                files=files,
                more=len(picks) > wanted.limit or len(ranks or ()) == MOST_FOUND,
                by_target=[
                    TargetShare(name or "", picked, tokens, relevance)
                    for name, picked, tokens, relevance in (jobs.by_target(job_id) if has_targets else ())
                ],
                evaluations=views_of(
                    session,
                    Evaluations(session).page(project_id, ListFilter(), job_id=job_id, before=None, limit=evaluations),
                ),
            )

    def shared(self, project_id: str, first: str, second: str) -> tuple[int, tuple[JobView, JobView]]:
        """How many rows two jobs both selected, by their digests, and the jobs.

        Args:
            project_id: Owner.
            first: A job.
            second: Another, on any data set.

        Raises:
            NotFoundError: There is no such job in the project.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by find_job()
        with self.database.read() as session:
            jobs = [find_job(session, project_id, job_id) for job_id in (first, second)]
            rows = [Jobs(session).row_digests(job.id) for job in jobs]
            views = [JobService.view(session, job) for job in jobs]
        return len(rows[0] & rows[1]), (views[0], views[1])


def _with_words(path: Path, wanted: PickFilter) -> list[int]:
    """Ranks of the rows behind a rank whose record has the words, in order."""
    found, words = [], wanted.words.casefold()
    with path.open(encoding="utf-8") as lines:
        for rank, line in enumerate(lines, 1):
            if rank > wanted.after and words in _readable(line).casefold():
                found.append(rank)
                if len(found) == MOST_FOUND:
                    break
    return found


def _readable(line: str) -> str:
    """A record as text, its escapes resolved."""
    return json.dumps(json.loads(line), ensure_ascii=False) if "\\" in line else line


def _with_text(picks: Sequence[SelectedSample], path: Path | None, dataset: Dataset) -> list[Pick]:
    """Picks with their records: line k of the file is pick k."""
    lines: dict[int, str] = {}
    if path is not None and picks:
        wanted = {pick.rank for pick in picks}
        with path.open(encoding="utf-8") as file:
            for rank, line in enumerate(file, 1):
                if rank in wanted:
                    lines[rank] = line
                if len(lines) == len(wanted):
                    break
    return [Pick(pick, _turns(lines[pick.rank], dataset) if pick.rank in lines else []) for pick in picks]


def _turns(line: str, dataset: Dataset) -> list[tuple[str, str]]:
    record: Any = json.loads(line)
    try:
        turns = to_messages(record, dataset.format, dataset.columns or {})  # type: ignore[arg-type]
        return [(turn["role"], shown(turn)) for turn in turns]
    except (RowError, KeyError, ValueError):
        return [("record", json.dumps(record, ensure_ascii=False, indent=1))]
