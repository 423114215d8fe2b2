"""Use cases of data sets: register, show, list, delete."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.errors import ConflictError, NotFoundError, ServiceError
from app.ids import new_id
from app.persistence.repositories import Artifacts, Datasets, Evaluations, Events, ListFilter, Units
from app.persistence.repositories.rows import now
from app.persistence.session import Database
from app.persistence.tables import Dataset, RejectedRow, Unit
from app.services.datasets.joined_files import join_files
from app.services.datasets.sources import refuse_source
from app.services.idempotency import first_call, made_before, replayed
from app.services.if_match import require_version
from app.services.jobs.validation import refuse_unready
from app.services.quotas import Quotas
from app.services.storage.retention import Retention
from app.settings import Settings
from app.status import DatasetStatus, UnitKind
from app.storage import ArtifactStore
from spice_select.config import digest_of
from spice_select.ingest.source_urls import AnySource, shown

OPERATION = "POST /v1/datasets"
"""What the Idempotency-Key of a registration is for."""


@dataclass(frozen=True)
class Upload:
    """A received file, still in the scratch folder.

    Attributes:
        path: Where it lies.
        sha256: Digest (hex) of its bytes.
        bytes: Its size.
    """

    path: Path
    sha256: str
    bytes: int


def enter(
    session: Session,
    dataset_id: str,
    project_id: str,
    upload: Upload | None,
    *,
    name: str | None,
    requested: dict[str, Any],
    metadata: dict[str, Any],
    source: dict[str, Any] | None = None,
    appended_to: str | None = None,
) -> None:
    """Write down a data set whose bytes are in the store, or come from a source, and queue its validation."""
    Datasets(session).add(
        Dataset(
            id=dataset_id,
            project_id=project_id,
            name=name,
            status=DatasetStatus.VALIDATING,
            bytes=upload.bytes if upload is not None else 0,
            sha256=upload.sha256 if upload is not None else "",
            requested=requested,
            source=source,
            appended_to=appended_to,
            metadata_=metadata,
            created_at=now(session),
        )
    )
    unit = {"id": new_id("unit"), "project_id": project_id, "kind": UnitKind.INGEST}
    Units(session).add_all([{**unit, "dataset_id": dataset_id}])
    Events(session).append(project_id, "dataset.validating", dataset_id=dataset_id)


@dataclass(frozen=True)
class DatasetView:
    """A data set and, while it is being validated, the unit that does it."""

    dataset: Dataset
    unit: Unit | None


class DatasetService:
    """Data sets of one service.

    Args:
        database: Where the records are.
        store: Where the bytes are.
        settings: For the sources that may be fetched from, and for the removal of what is deleted.
    """

    def __init__(self, database: Database, store: ArtifactStore, settings: Settings) -> None:
        self.retention = Retention(database, store, settings)
        self.database = database
        self.store = store
        self.settings = settings
        self.quotas = Quotas(store, settings)

    def register(
        self,
        project_id: str,
        upload: Upload,
        *,
        name: str | None,
        requested: dict[str, Any],
        metadata: dict[str, Any],
        key: str | None,
        appended_to: str | None = None,
    ) -> tuple[DatasetView, bool]:
        """Keep the bytes and queue their validation.

        Args:
            project_id: Owner.
            upload: The received file.
            name: What to call it.
            requested: ``format`` and ``columns`` where the client gave them.
            metadata: The client's own key-values.
            key: Idempotency-Key.
            appended_to: The data set that the file begins with.

        Returns:
            The data set, and whether an earlier call had made it.

        Raises:
            ServiceError: ``quota-bytes``, ``quota-exceeded`` or ``idempotency-key-reused``.
        """
        about: dict[str, Any] = {"name": name, "requested": requested, "metadata": metadata}
        if appended_to is not None:
            about["appended_to"] = appended_to
        request = {"sha256": upload.sha256, **about}
        known = first_call(self.database, project_id, OPERATION, key, digest_of(request))
        if known is not None:
            return made_before(partial(self.get, project_id, known), f"data set {known}"), True
        more = 0 if self.store.has(project_id, upload.sha256) else upload.bytes
        with self.quotas.storing(self.database, project_id, datasets=1, stored_bytes=more):
            # The bytes first: a row must never name an artifact that is not there.
            self.store.add(project_id, upload.path, upload.sha256)
        try:
            return self._enter_once(project_id, key, request, {"upload": upload, **about})
        except ServiceError:  # another call came first
            with self.database.write() as session:
                Artifacts(session).mark_obsolete(project_id, [upload.sha256])
            raise

    def append(
        self,
        project_id: str,
        dataset_id: str,
        upload: Upload,
        folder: Path,
        *,
        name: str | None,
        metadata: dict[str, Any],
        key: str | None,
    ) -> tuple[DatasetView, bool]:
        """Queue the validation of a new version: the rows of a data set, and those of a file behind them.

        Both are kept as one archive and read as the first was, so that its rows have the same shards and the same
        gradients, all but the last shard.

        Args:
            project_id: Owner.
            dataset_id: The data set, which stays as it is.
            upload: The file with the new rows.
            folder: For the archive.
            name: What to call the new version; as the old one when None.
            metadata: The client's own key-values.
            key: Idempotency-Key.

        Returns:
            The new data set, and whether an earlier call had made it.

        Raises:
            NotFoundError: There is no such data set.
            ServiceError: ``dataset-not-ready``, ``dataset-invalid``, ``dataset-not-kept`` for one whose bytes are not
                here, ``payload-too-large``, or as for ``register``.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
        dataset = self.get(project_id, dataset_id).dataset
        refuse_unready(dataset)
        if dataset.source is not None:
            detail = "the data set was fetched, its bytes are not kept: register the longer one from its source"
            raise ServiceError("dataset-not-kept", detail)
        joined = join_files(
            [self.store.intact(project_id, dataset.sha256), upload.path],
            folder / "joined",
            self.settings.max_upload_bytes,
        )
        whole = Upload(folder / "joined", *joined)
        return self.register(
            project_id,
            whole,
            name=name or dataset.name,
            requested=dataset.requested,
            metadata=metadata,
            key=key,
            appended_to=dataset_id,
        )

    def fetch_from(
        self,
        project_id: str,
        source: AnySource,
        *,
        name: str | None,
        requested: dict[str, Any],
        metadata: dict[str, Any],
        key: str | None,
    ) -> tuple[DatasetView, bool]:
        """Queue the fetching and the validation of a data set that lies elsewhere.

        Args:
            project_id: Owner.
            source: Where it lies.
            name: What to call it; the source's own address when None.
            requested: ``format`` and ``columns`` where the client gave them.
            metadata: The client's own key-values.
            key: Idempotency-Key.

        Returns:
            The data set, and whether an earlier call had made it.

        Raises:
            ServiceError: ``source-not-allowed``, ``url-not-allowed``, ``quota-bytes``, ``quota-exceeded`` or
                ``idempotency-key-reused``.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by refuse_source() and replayed()
        refuse_source(source, self.settings)
        asked, about = source.model_dump(mode="json"), {"requested": requested, "metadata": metadata}
        row = {"upload": None, "source": asked, "name": name or shown(source)[:200], **about}
        return self._enter_once(project_id, key, {"source": asked, "name": name, **about}, row)

    def _enter_once(
        self, project_id: str, key: str | None, request: dict[str, Any], row: dict[str, Any]
    ) -> tuple[DatasetView, bool]:
        """Enter a data set unless an earlier call with this key has; repeated calls are compared by their request."""
        dataset_id = new_id("ds")
        with self.database.write() as session:
            known = replayed(session, project_id, OPERATION, key, digest_of(request), dataset_id)
            if known is None:
                # How many bytes will come of a source is not known yet.
                new = {} if row["upload"] is not None else {"stored_bytes": 1}
                self.quotas.refuse(session, project_id, datasets=1, **new)
                enter(session, dataset_id, project_id, **row)
        if known is not None:
            return made_before(partial(self.get, project_id, known), f"data set {known}"), True
        return self.get(project_id, dataset_id), False

    def get(self, project_id: str, dataset_id: str) -> DatasetView:
        """One data set.

        Raises:
            NotFoundError: There is none of this id in the project.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by _find()
        with self.database.read() as session:
            dataset = self._find(Datasets(session), project_id, dataset_id)
            validating = dataset.status == DatasetStatus.VALIDATING
            return DatasetView(dataset, Units(session).of_dataset(dataset_id) if validating else None)

    def names(self, project_id: str, ids: Iterable[str]) -> dict[str, str]:
        """Names of data sets by id, of deleted ones too; those without a name are left out."""
        with self.database.read() as session:
            return Datasets(session).names(project_id, ids)

    def jobs_on(self, project_id: str, ids: Iterable[str]) -> dict[str, int]:
        """How many jobs choose from each of these data sets; those without any are left out."""
        with self.database.read() as session:
            return Datasets(session).jobs_on(project_id, ids)

    def page(self, project_id: str, wanted: ListFilter, *, before: str | None, limit: int) -> list[DatasetView]:
        """Data sets, in the order that is wanted."""
        with self.database.read() as session:
            datasets = Datasets(session).page(project_id, wanted, before=before, limit=limit)
            return [DatasetView(dataset, None) for dataset in datasets]

    def versions(self, dataset: Dataset, limit: int) -> list[Dataset]:
        """Data sets of the same name, and those that this one was appended to or that were appended to it."""
        with self.database.read() as session:
            return Datasets(session).versions(dataset, limit)

    def rejected(self, project_id: str, dataset_id: str, *, after: int, limit: int) -> list[RejectedRow]:
        """Rows that cannot be used, in order of the source.

        Raises:
            NotFoundError: There is no such data set.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by _find()
        with self.database.read() as session:
            self._find(Datasets(session), project_id, dataset_id)
            return Datasets(session).rejected(dataset_id, after=after, limit=limit)

    def rows(self, project_id: str, dataset_id: str, *, after: int, limit: int) -> list[dict[str, Any]]:
        """Usable rows behind a source row, in order.

        Raises:
            ServiceError: ``dataset-not-ready`` or ``dataset-invalid``.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by refuse_unready()
        dataset = self.get(project_id, dataset_id).dataset
        refuse_unready(dataset)
        return list(islice(self._rows_after(dataset, after), limit))

    def search(
        self, project_id: str, dataset_id: str, words: str, *, after: int, limit: int, most: int
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Usable rows behind a source row whose record has some words, in either case.

        Args:
            project_id: Owner.
            dataset_id: The data set.
            words: What is looked for; every row has nothing.
            after: Source row that they lie behind.
            limit: Most rows.
            most: Most rows that are looked at.

        Returns:
            The rows, and the source row to go on behind; None at the end of the data set.

        Raises:
            ServiceError: ``dataset-not-ready`` or ``dataset-invalid``.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by refuse_unready()
        dataset = self.get(project_id, dataset_id).dataset
        refuse_unready(dataset)
        found: list[dict[str, Any]] = []
        wanted, last = words.casefold(), None
        for looked_at, row in enumerate(self._rows_after(dataset, after)):
            if looked_at == most or len(found) == limit:
                return found, last
            if wanted in json.dumps(row["record"], ensure_ascii=False, default=str).casefold():
                found.append(row)
            last = row["row"]
        return found, None

    def _rows_after(self, dataset: Dataset, after: int) -> Iterator[dict[str, Any]]:
        from spice_select.ingest import iter_rows

        for shard in dataset.shards or []:
            if shard["last_source_row"] <= after:
                continue
            for row in iter_rows(self.store.intact(dataset.project_id, shard["sha256"])):
                if row.source_row > after:
                    yield {
                        "row": row.source_row,
                        "row_sha256": row.row_sha256,
                        "record": row.value(),
                        "messages": row.messages,
                    }

    def delete(self, project_id: str, dataset_id: str, expected: frozenset[int] | None = None) -> None:
        """Take a data set and its bytes away; finished jobs keep their own files and provenance.

        Deleting it again changes nothing.

        Raises:
            NotFoundError: There is no such data set in the project.
            ConflictError: ``dataset-in-use`` while a job or an evaluation on it has not ended.
        """
        with self.database.write() as session:
            datasets = Datasets(session)
            dataset = datasets.lock_to_delete(project_id, dataset_id)
            if dataset is None:
                raise NotFoundError(f"data set {dataset_id}")
            if dataset.deleted_at is not None:
                return
            require_version(dataset.version, expected)
            if datasets.active_jobs(dataset_id):
                raise ConflictError("a job that has not ended uses the data set", code="dataset-in-use")
            if Evaluations(session).active_on(dataset_id):
                raise ConflictError("an evaluation that has not ended uses the data set", code="dataset-in-use")
            unit = Units(session).of_dataset(dataset_id)
            if unit is not None:
                Units(session).kill(unit.id, None)
            datasets.settle(dataset_id, DatasetStatus.INVALID, {})
            datasets.mark_deleted(dataset_id)
            shards = [*(dataset.shards or []), *(dataset.source_shards or [])]
            obsolete = {dataset.sha256, *(shard["sha256"] for shard in shards)}
            obsolete.discard("")  # of a source that was never fetched
            # Those that other data sets name as well stay: such as begin with the same rows share their first files.
            Artifacts(session).mark_obsolete(project_id, obsolete)
        self.retention.remove_of(project_id, obsolete)

    @staticmethod
    def _find(datasets: Datasets, project_id: str, dataset_id: str) -> Dataset:
        dataset = datasets.get(project_id, dataset_id)
        if dataset is None:
            raise NotFoundError(f"data set {dataset_id}")
        return dataset
