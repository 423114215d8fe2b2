"""Use cases of the files of a result: find, cut to fewer picks, link."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from app.errors import ServiceError
from app.persistence.repositories import Datasets
from app.persistence.tables import Job
from app.services.access.signed_links import Link, LinkSigner
from app.services.compat import understood
from app.services.jobs.service import JobService
from app.services.results.openlineage import job_events
from app.services.results.reader import ResultReader
from app.services.results.truncated import CUTTABLE, TruncatedResults
from app.settings import Settings
from app.storage import ArtifactStore
from spice_select.config import RunConfig

if TYPE_CHECKING:
    from spice_select.records.formats import ColumnRole, Form

QUERY_K = {"parameter": "k", "in": "query"}


@dataclass(frozen=True)
class Stored:
    """A file that can be sent.

    Attributes:
        name: What it is called.
        media_type: What it is.
        bytes: Its size.
        sha256: Digest (hex) of its bytes.
        path: Where it lies.
    """

    name: str
    media_type: str
    bytes: int
    sha256: str
    path: Path


class ResultService:
    """Files of results.

    Args:
        jobs: The jobs they belong to.
        reader: Reads their results.
        store: Where the bytes are.
        settings: For links and for the room of cut files.
    """

    def __init__(self, jobs: JobService, reader: ResultReader, store: ArtifactStore, settings: Settings) -> None:
        self.jobs = jobs
        self.reader = reader
        self.settings = settings
        self.signer = LinkSigner(settings)
        self.truncated = TruncatedResults(store, settings.prefix_cache_bytes)

    def file(
        self,
        project_id: str,
        job_id: str,
        name: str,
        k: int | None = None,
        *,
        k_is: Mapping[str, str] = QUERY_K,
        form: Literal["messages"] | None = None,
    ) -> Stored:
        """One file of a result, whole or with the first k picks only.

        Args:
            project_id: Owner.
            job_id: The job.
            name: The file.
            k: How many picks; None for all.
            k_is: Where the caller said k, for errors.
            form: ``messages`` gives the rows as conversations, under the names that trainers read; None as they came.

        Raises:
            ServiceError: ``not-found``, ``conflict-state`` while there is no result, ``validation-error`` where k
                does not fit, ``prefix-undefined`` where the first k picks mean nothing.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps below
        file, path = self.reader.file(project_id, job_id, name)
        whole = Stored(file.name, file.media_type, file.bytes, file.sha256, path)
        if k is None and form is None:
            return whole
        job = self.jobs.get(project_id, job_id).job
        if k is not None and k != _refuse_cut(job, name, k, k_is):
            cut = self.truncated.cut(project_id, path, file.sha256, k, parquet=name.endswith(".parquet"))
            whole = Stored(file.name, file.media_type, cut.stat().st_size, cut.name, cut)
        return whole if form is None else self._conversations(job, whole, f"{file.sha256}-{k or 'all'}-messages")

    def _conversations(self, job: Job, rows: Stored, key: str) -> Stored:
        """The rows of ``selected.jsonl`` as conversations.

        Raises:
            ServiceError: ``validation-error``: another file.
        """
        if rows.name != "selected.jsonl":
            detail = f"form: {rows.name} holds no records as they came; it goes with selected.jsonl"
            finding = {"detail": detail, "parameter": "form", "in": "query"}
            raise ServiceError("validation-error", detail, errors=[finding])
        with self.reader.database.read() as session:
            dataset = Datasets(session).get_even_deleted(job.dataset_id)
            shape, columns = dataset.format, dataset.columns
        from spice_select.results.trainers import write_conversations

        def write(target: Path) -> None:
            write_conversations(rows.path, target, cast("Form", shape), cast("dict[ColumnRole, str]", columns))

        made = self.truncated.made(job.project_id, key, write)
        return Stored(rows.name, rows.media_type, made.stat().st_size, made.name, made)

    def run_events(self, project_id: str, job_id: str) -> list[dict[str, Any]]:
        """Every OpenLineage event of a job so far."""
        return job_events(self.reader.database, self.settings.openlineage_namespace, project_id, job_id)

    def link(
        self, project_id: str, job_id: str, name: str, *, k: int | None, seconds: float
    ) -> tuple[str, Link, Stored]:
        """A token that opens a file without an API key, what it says, and the file."""
        file = self.file(project_id, job_id, name, k, k_is={"pointer": "#/k"})
        token, link = self.signer.sign(project_id, job_id, name, k, seconds)
        return token, link, file

    def linked(self, token: str, name: str) -> Stored:
        """The file that a token opens."""
        link = self.signer.open(token, name)
        return self.file(link.project_id, link.job_id, link.name, link.k)


def _refuse_cut(job: Job, name: str, k: int, k_is: Mapping[str, str]) -> int:
    """The number of picks, or the reason why they cannot be cut at k.

    Raises:
        ServiceError: ``validation-error`` or ``prefix-undefined``.
    """
    assert job.result is not None
    selected = int(job.result["selected"])
    if name not in CUTTABLE:
        detail = f"k: {name} has no row per pick; it cuts {', '.join(CUTTABLE)}"
        raise ServiceError("validation-error", detail, errors=[{"detail": detail, **k_is}])
    selection = understood(RunConfig, job.config, f"job {job.id}").selection
    reason = None
    if selection.scope.kind != "global":
        reason = f"the scope was {selection.scope.kind}, so the picks were not made one after another in one pool"
    elif selection.budget.tokens is not None:
        reason = "the budget was in tokens, where fewer tokens may call for other picks"
    elif selection.quotas is not None and selection.quotas.floors:
        reason = "the floors of the quotas were met with all picks, not with the first of them"
    if reason is not None:
        raise ServiceError("prefix-undefined", reason)
    if k > selected:
        detail = f"k: {k} is more than the {selected} picks of the job"
        raise ServiceError("validation-error", detail, errors=[{"detail": detail, **k_is}])
    return selected
