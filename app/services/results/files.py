"""Use cases of the files of a result: find, cut to fewer picks, link."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from app.errors import NotFoundError, ServiceError
from app.persistence.repositories import Datasets
from app.persistence.tables import File, Job
from app.services.access.result_signer import ResultSigner
from app.services.access.signed_links import Link, LinkSigner
from app.services.compat import understood
from app.services.jobs.service import JobService
from app.services.results.openlineage import job_events
from app.services.results.reader import ResultReader
from app.services.results.truncated import CUTTABLE, TruncatedResults
from app.settings import Settings
from app.storage import BLOCK_BYTES, ArtifactStore
from spice_select.config import RunConfig
from spice_select.results.signature import ENVELOPE_FILE, ENVELOPE_MEDIA_TYPE

if TYPE_CHECKING:
    from spice_select.records.formats import ColumnRole, Form

QUERY_K = {"parameter": "k", "in": "query"}
STATEMENT_FILE = "provenance.intoto.jsonl"
ARCHIVE = "archive.zip"
"""Every file of a result in one, under the id of the job; made when it is asked for, and in no list of files."""


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
        self.result_signer = ResultSigner(settings)
        self.truncated = TruncatedResults(store, settings.prefix_cache_bytes)

    def files(self, project_id: str, job_id: str) -> list[File | Stored]:
        """Files of a result as they are stored, and the signature of its provenance where that is intact."""
        return self.signed(project_id, job_id, self.reader.files(project_id, job_id))

    def signed(self, project_id: str, job_id: str, stored: Sequence[File]) -> list[File | Stored]:
        """Files of a result, and the signature of its provenance where that is intact.

        Args:
            project_id: Owner.
            job_id: The job.
            stored: Its files as they are stored.
        """
        with suppress(ServiceError):  # a damaged or lost statement has no signature; asking for it says why
            return [*stored, self._envelope(project_id, job_id, stored)]
        return list(stored)

    def _envelope(self, project_id: str, job_id: str, stored: Sequence[File]) -> Stored:
        """The signature of a result's provenance; made again where it is not kept, with the same bytes.

        Raises:
            NotFoundError: The result is from before there was a statement.
        """
        digests = {file.name: file.sha256 for file in stored}
        if STATEMENT_FILE not in digests:
            raise NotFoundError(f"file {ENVELOPE_FILE} of job {job_id}")
        statement = self.reader.intact(project_id, job_id, STATEMENT_FILE, digests[STATEMENT_FILE])

        def write(target: Path) -> None:
            target.write_bytes(self.result_signer.envelope(statement.read_bytes(), job_id, digests))

        key = f"{digests[STATEMENT_FILE]}-signed-{self.result_signer.key_id[:16]}"
        made = self.truncated.made(project_id, key, write)
        return Stored(ENVELOPE_FILE, ENVELOPE_MEDIA_TYPE, made.stat().st_size, made.name, made)

    def _archive(self, project_id: str, job_id: str) -> Stored:
        """Every file of a result in one."""
        files = self.files(project_id, job_id)

        def write(target: Path) -> None:
            with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in files:
                    path = getattr(file, "path", None) or self.reader.intact(project_id, job_id, file.name, file.sha256)
                    entry = zipfile.ZipInfo(f"{job_id}/{file.name}")  # of no date: the same files are the same bytes
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as out:
                        shutil.copyfileobj(source, out, BLOCK_BYTES)

        said = [job_id, *(f"{file.sha256} {file.name}" for file in files)]
        digest = hashlib.sha256("\n".join(said).encode()).hexdigest()
        # Kept beside a file that no other job has: the archive goes when the job does.
        own = next((file for file in files if file.name == STATEMENT_FILE), files[0])
        made = self.truncated.made(project_id, f"{own.sha256}-archive-{digest[:16]}", write)
        return Stored(f"{job_id}.zip", "application/zip", made.stat().st_size, made.name, made)

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
        if name == ARCHIVE:
            whole = self._archive(project_id, job_id)
        elif name == ENVELOPE_FILE:
            whole = self._envelope(project_id, job_id, self.reader.files(project_id, job_id))
        else:
            file, path = self.reader.file(project_id, job_id, name)
            whole = Stored(file.name, file.media_type, file.bytes, file.sha256, path)
        if k is None and form is None:
            return whole
        job, kept = self.jobs.get(project_id, job_id).job, whole
        if k is not None and k != _refuse_cut(job, name, k, k_is):
            cut = self.truncated.cut(project_id, whole.path, whole.sha256, k, parquet=name.endswith(".parquet"))
            kept = Stored(name, whole.media_type, cut.stat().st_size, cut.name, cut)
        return kept if form is None else self._conversations(job, kept, f"{whole.sha256}-{k or 'all'}-messages")

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
    elif selection.quotas is not None and (selection.quotas.floors or selection.quotas.from_targets):
        reason = "the floors of the quotas were met with all picks, not with the first of them"
    if reason is not None:
        raise ServiceError("prefix-undefined", reason)
    if k > selected:
        detail = f"k: {k} is more than the {selected} picks of the job"
        raise ServiceError("validation-error", detail, errors=[{"detail": detail, **k_is}])
    return selected
