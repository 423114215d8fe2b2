"""Why one row was selected by a job, or not: its evidence, with the texts of the row and of what it is near to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from app.errors import ConflictError, NotFoundError, ServiceError
from app.persistence.repositories import Datasets
from app.persistence.session import Database
from app.persistence.tables import Dataset, Job
from app.services.jobs.service import find_job
from app.services.results.reader import ResultReader
from app.storage import ArtifactStore
from spice_select.records.conversation import load_conversation
from spice_select.results.row_evidence import ExplainedRow, RowEvidence, SelectionFacts, why

EVIDENCE = "evidence.parquet"


class RowEvidenceService:
    """The evidence of finished jobs, row by row.

    Args:
        database: Where the records are.
        store: Where the bytes are.
        reader: Reads results.
    """

    def __init__(self, database: Database, store: ArtifactStore, reader: ResultReader) -> None:
        self.database, self.store, self.reader = database, store, reader

    def explain(self, project_id: str, job_id: str, row: int) -> ExplainedRow:
        """Why a row was selected, or not. Texts are left out once the data set that they stand in is deleted.

        Args:
            project_id: Owner.
            job_id: A job that has ended with a result.
            row: 0-based row of the source.

        Raises:
            ConflictError: ``conflict-state`` without a result, ``evidence-unavailable`` where rows were not compared in
                one pool.
            NotFoundError: There is no such job in the project.
            ServiceError: ``not-found``: the data set has no such row. ``artifact-corrupt`` or ``artifact-lost``.
        """  # ruff: ignore[docstring-extraneous-exception] - the last are raised by the reader and the store
        with self.database.read() as session:
            job = find_job(session, project_id, job_id)
            datasets = Datasets(session)
            pool = datasets.get_even_deleted(job.dataset_id)
            targets = None if job.target_dataset_id is None else datasets.get_even_deleted(job.target_dataset_id)
            rejected = datasets.rejected(job.dataset_id, after=row - 1, limit=1)
        path = self._file(project_id, job_id)
        from spice_select.results.evidence_file import read_row_evidence

        evidence, facts = read_row_evidence(path, row)
        if evidence is None:
            if not rejected or rejected[0].row != row:
                rows = f"it has the rows 0 to {(pool.num_rows or 0) - 1}"
                detail = f"row: the data set of the job has no row {row}; {rows}"
                raise ServiceError("not-found", detail, errors=[{"detail": detail, "parameter": "row", "in": "path"}])
            unusable = f"it cannot be used: {rejected[0].detail}"
            evidence = RowEvidence(source_row=row, status="excluded", code=rejected[0].code, detail=unusable)
        return self._with_texts(evidence, facts, job, pool, targets)

    def not_selected(
        self,
        project_id: str,
        job_id: str,
        status: Literal["not_selected", "excluded"],
        *,
        after: int,
        limit: int,
    ) -> list[ExplainedRow]:
        """Rows that were not selected: candidates that came nearest to it first, or those left out before.

        Args:
            project_id: Owner.
            job_id: A job that has ended with a result.
            status: Which rows.
            after: How many of them to pass over.
            limit: Most rows.

        Raises:
            ConflictError: As for ``explain``.
            NotFoundError: There is no such job in the project.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
        from spice_select.results.evidence_file import read_rows_not_selected

        with self.database.read() as session:
            job = find_job(session, project_id, job_id)
            pool = Datasets(session).get_even_deleted(job.dataset_id)
        rows, facts = read_rows_not_selected(self._file(project_id, job_id), status, after=after, limit=limit)
        texts = self._pool_texts(pool, {row.source_row for row in rows})
        return [
            ExplainedRow.model_validate(
                {
                    **row.model_dump(exclude={"nearest_targets"}),
                    "why": why(row, facts),
                    "messages": texts.get(row.source_row),
                }
            )
            for row in rows
        ]

    def _file(self, project_id: str, job_id: str) -> Path:
        """The evidence of a job.

        Raises:
            ConflictError: ``evidence-unavailable``.
        """
        try:
            return self.reader.file(project_id, job_id, EVIDENCE)[1]
        except NotFoundError as error:
            raise ConflictError(
                f"job {job_id} has no evidence for each row: it selected by windows or in parts, or is older",
                code="evidence-unavailable",
            ) from error

    def _with_texts(
        self, evidence: RowEvidence, facts: SelectionFacts, job: Job, pool: Dataset, targets: Dataset | None
    ) -> ExplainedRow:
        texts = self._pool_texts(pool, {evidence.source_row, evidence.nearest_pick} - {None})
        near = {(item.target, item.row) for item in evidence.nearest_targets}
        named = (job.config.get("conditions") or {}).get("target_dataset_id") is None
        of_targets = {} if targets is None else self._target_texts(targets, near, named=named)
        return ExplainedRow.model_validate(
            {
                **evidence.model_dump(),
                "why": why(evidence, facts),
                "messages": texts.get(evidence.source_row),
                "nearest_pick_messages": texts.get(evidence.nearest_pick),
                "nearest_targets": [
                    {**item.model_dump(), "messages": of_targets.get((item.target, item.row))}
                    for item in evidence.nearest_targets
                ],
            }
        )

    def _pool_texts(self, dataset: Dataset, rows: set[int | None]) -> dict[int | None, list[Any]]:
        """Messages of rows of a data set; only the shards that hold them are read."""
        texts: dict[int | None, list[Any]] = {}
        before = -1
        for shard in [] if dataset.deleted_at is not None else dataset.shards or []:
            wanted = [row for row in rows if row is not None and before < row <= shard["last_source_row"]]
            before = shard["last_source_row"]
            if wanted:
                found = self._read(dataset, shard, ["source_row", "messages"], wanted)
                texts.update((item["source_row"], list(load_conversation(item["messages"]))) for item in found)
        return texts

    def _target_texts(
        self, dataset: Dataset, near: set[tuple[str, int]], *, named: bool
    ) -> dict[tuple[str, int], list[Any]]:
        """Messages of target rows, whose records say which they are; of a single target all are one."""
        texts: dict[tuple[str, int], list[Any]] = {}
        for shard in [] if dataset.deleted_at is not None or not near else dataset.shards or []:
            for item in self._read(dataset, shard, ["source_row", "record", "messages"], None):
                record = json.loads(item["record"]) if named else {}
                key = (record.get("target", "target"), record.get("target_row", item["source_row"]))
                if key in near:
                    texts[key] = list(load_conversation(item["messages"]))
        return texts

    def _read(
        self, dataset: Dataset, shard: dict[str, Any], columns: list[str], rows: list[int] | None
    ) -> Iterator[dict[str, Any]]:
        import pyarrow.parquet as pq

        path = self.store.intact(dataset.project_id, shard["sha256"])
        filters = None if rows is None else [("source_row", "in", rows)]
        yield from pq.read_table(path, columns=columns, filters=filters).to_pylist()
