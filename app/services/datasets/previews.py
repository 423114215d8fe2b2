"""Use case: how a data set would be read, and what would be learned of its first rows. Nothing is stored."""

from __future__ import annotations

import json
import os
import signal
import subprocess  # ruff: ignore[suspicious-subprocess-import] - our own interpreter, no shell
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pydantic import SecretStr

from app.errors import ServiceError
from app.services.datasets.preview_task import PreviewTask
from app.services.datasets.service import DatasetService, Upload
from app.services.datasets.sources import refuse_source
from app.services.health import ROOT
from app.services.jobs.proxies import Proxies
from app.services.jobs.validation import refuse_unready
from app.settings import Settings
from app.storage import ArtifactStore
from spice_select.config import GradientConfig, ProxyConfig
from spice_select.ingest import IntakeLimits, IntakeOptions
from spice_select.ingest.source_urls import AnySource

FIRST_ROWS = 1000
"""Records that a preview reads of a file, as many as decide its form."""
AT_ONCE = 2
"""Previews that one process makes at a time; each is a process of its own."""
_KINDS_OF_SETTINGS = ("source_", "outbound_", "hub_", "s3_", "max_upload_")


@dataclass(frozen=True)
class PreviewRequest:
    """How a preview is made.

    Attributes:
        rows: How many usable and how many rejected rows are shown.
        proxy: Whose tokenizer and template are used; the service's own when None.
        gradients: Its ``objective``, ``max_length``, ``overflow`` and ``chat_date`` are read.
    """

    rows: int = 5
    proxy: ProxyConfig | None = None
    gradients: GradientConfig = field(default_factory=GradientConfig)


class DatasetPreviews:
    """Previews of files, sources and data sets.

    Args:
        datasets: For those that are here already.
        store: Where their bytes are.
        proxies: For the models that may be named.
        settings: For limits, and for the sources that may be fetched from.
    """

    def __init__(self, datasets: DatasetService, store: ArtifactStore, proxies: Proxies, settings: Settings) -> None:
        self.datasets, self.store, self.proxies, self.settings = datasets, store, proxies, settings
        self._free = threading.BoundedSemaphore(AT_ONCE)

    def of_upload(self, upload: Upload, requested: dict[str, Any], asked: PreviewRequest) -> dict[str, Any]:
        """A file that was received.

        Args:
            upload: The file, in the scratch folder.
            requested: ``format``, ``columns`` and ``split`` where the client gave them.
            asked: How it is shown.

        Raises:
            ServiceError: ``too-many-previews``, ``template-limit``, or what is wrong with the file.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by _run()
        return self._run(asked, path=str(upload.path), options=IntakeOptions.model_validate(requested))

    def of_source(self, source: AnySource, requested: dict[str, Any], asked: PreviewRequest) -> dict[str, Any]:
        """What lies elsewhere; it is fetched into the scratch folder of the child.

        Raises:
            ServiceError: ``source-not-allowed``, or as ``of_upload``.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
        refuse_source(source, self.settings)
        given = {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in ((name, getattr(self.settings, name)) for name in Settings.model_fields)
            if name.startswith(_KINDS_OF_SETTINGS)
        }
        return self._run(
            asked,
            source=source.model_dump(mode="json"),
            source_settings=given,
            options=IntakeOptions.model_validate(requested),
        )

    def of_dataset(self, project_id: str, dataset_id: str, asked: PreviewRequest) -> dict[str, Any]:
        """A data set that is ready: its first rows, with what was found when it was read.

        Raises:
            NotFoundError: There is no such data set.
            ServiceError: ``dataset-not-ready`` or ``dataset-invalid``, or as ``of_upload``.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
        dataset = self.datasets.get(project_id, dataset_id).dataset
        refuse_unready(dataset)
        shards, left = [], asked.rows
        for shard in dataset.shards or []:
            if left > 0:
                shards.append(str(self.store.intact(project_id, shard["sha256"])))
                left -= shard["rows"]
        rejected = self.datasets.rejected(project_id, dataset_id, after=-1, limit=asked.rows)
        names = ("container", "compression", "format", "columns", "column_names", "num_rows", "num_usable")
        facts = {name: getattr(dataset, name) for name in (*names, "num_rejected", "rejected")}
        made = self._run(asked, shards=shards)
        return {
            **made,
            **facts,
            "warnings": dataset.warnings or [],
            "rejected_rows": [{"row": row.row, "code": row.code, "detail": row.detail} for row in rejected],
            "complete": True,
        }

    def _run(self, asked: PreviewRequest, **about: Any) -> dict[str, Any]:
        """Do it in a child process.

        Raises:
            ServiceError: ``too-many-previews``, or what the child said.
        """
        settings = self.settings
        proxy = self.proxies.resolve(asked.proxy)
        task = PreviewTask(
            **about,
            limits=IntakeLimits(
                max_bytes=settings.preview_bytes,
                max_decoded_bytes=16 * settings.preview_bytes,
                first_rows=FIRST_ROWS,
                max_row_bytes=settings.max_row_bytes,
                memory_bytes=settings.ingest_memory_bytes,
                wall_seconds=settings.preview_seconds,
            ),
            rows=asked.rows,
            proxy=proxy.config,
            gradients=asked.gradients,
            memory_bytes=settings.template_memory_bytes,
            template_seconds=min(settings.template_seconds, settings.preview_seconds),
            seconds=settings.preview_seconds,
        )
        if not self._free.acquire(blocking=False):
            raise ServiceError(
                "too-many-previews",
                f"{AT_ONCE} previews are being made by this process already",
                headers={"Retry-After": "2"},
            )
        try:
            return {**_follow(task), "proxy": {"model": proxy.config.model, "revision": proxy.revision}}
        finally:
            self._free.release()


def _follow(task: PreviewTask) -> dict[str, Any]:
    """Run the child; what it made.

    Raises:
        ServiceError: What it said is wrong, or that it ran out of time.
    """
    # None of the service's own settings go along: no secret of the database reaches a template.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPICE_")}
    child = subprocess.Popen(
        [sys.executable, "-m", "workers.preview_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**environment, "TOKENIZERS_PARALLELISM": "false", "MALLOC_ARENA_MAX": "2"},
        start_new_session=True,
    )
    try:
        said, _ = child.communicate(task.model_dump_json().encode(), timeout=task.seconds)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        said, _ = child.communicate()
        _refuse_slow(_words(said), task)
    words = _words(said)
    last = words[-1] if words else {}
    if "preview" in last:
        made: dict[str, Any] = last["preview"]
        return made
    if "problem" in last:
        problem = last["problem"]
        members = {name: problem[name] for name in ("reasons", "column_names") if problem.get(name)}
        raise ServiceError(problem["code"], problem["detail"], errors=problem["errors"], members=members)
    if child.returncode < 0:  # by its limit of time, or because it could not have more memory
        _refuse_slow(words, task)
    raise ServiceError("internal", f"the preview ended with status {child.returncode}")


def _words(said: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines() if line.startswith(b"{") and line.endswith(b"}")]


def _refuse_slow(words: list[dict[str, Any]], task: PreviewTask) -> NoReturn:
    """Whoever had the word when the time was up, is to blame.

    Raises:
        ServiceError: ``template-limit``, ``download-limit`` or ``dataset-unreadable``.
    """
    phase = words[-1].get("phase") if words else None
    if phase == "rendering":
        detail = (
            f"the chat template or the tokenizer of {task.proxy.model} took more than "
            f"{task.template_seconds:g} seconds or {task.memory_bytes} bytes for the rows of a preview"
        )
        raise ServiceError("template-limit", detail, pointer="#/proxy/model")
    code = "download-limit" if phase == "fetching" else "dataset-unreadable"
    raise ServiceError(code, f"the preview took more than {task.seconds:g} seconds; send fewer rows")
