"""A job in an MLflow run: what was chosen as an input with its digest, settings, numbers, files."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spice_select.client.models import Dataset, File, Job
from spice_select.errors import ClientError, ConfigError

if TYPE_CHECKING:
    from spice_select.client.asynchronous import AsyncClient
    from spice_select.client.blocking import Client

DIGEST_CHARACTERS = 36
"""MLflow keeps no longer digest; the whole one is in a tag beside it."""
MOST_PARAMETERS = 100
"""MLflow takes no more in one call."""
MOST_CHARACTERS = 6000
FOLDER = "spice-select"


@dataclass(frozen=True)
class Finished:
    """What a run is told of a job.

    Attributes:
        job: A job with a result.
        files: Its files by name.
        dataset: What it chose from.
        urls: Addresses of the chosen rows and of the data set.
    """

    job: Job
    files: Mapping[str, File]
    dataset: Dataset
    urls: tuple[str, str]


def log_job(client: Client, job_id: str, *, run_id: str | None, context: str, artifacts: bool) -> str:
    """See ``Client.log_to_mlflow``."""
    _require_mlflow()
    job = client.jobs.get(job_id)
    files = client.jobs.files(job_id) if job.result is not None else ()
    _require_result(job, files)
    dataset = client.datasets.get(job.dataset_id or "")
    with tempfile.TemporaryDirectory(prefix="spice-mlflow-") as folder:
        if artifacts:
            client.jobs.download(job.id, Path(folder))
        told = _told(job, files, dataset, client.url)
        return _record(told, folder if artifacts else None, run_id=run_id, context=context)


async def log_job_awaited(
    client: AsyncClient, job_id: str, *, run_id: str | None, context: str, artifacts: bool
) -> str:
    """See ``Client.log_to_mlflow``. The service is awaited; MLflow itself knows blocking calls only."""
    _require_mlflow()
    job = await client.jobs.get(job_id)
    files = await client.jobs.files(job_id) if job.result is not None else ()
    _require_result(job, files)
    dataset = await client.datasets.get(job.dataset_id or "")
    with tempfile.TemporaryDirectory(prefix="spice-mlflow-") as folder:
        if artifacts:
            await client.jobs.download(job.id, Path(folder))
        told = _told(job, files, dataset, client.url)
        return _record(told, folder if artifacts else None, run_id=run_id, context=context)


def _require_mlflow() -> None:
    if importlib.util.find_spec("mlflow") is None:
        raise ConfigError("MLflow is not installed here: pip install mlflow (or mlflow-skinny)")


def _require_result(job: Job, files: Sequence[File]) -> None:
    if job.result is None or not files:
        raise ClientError(f"{job.id} has no result: it is {job.status}", code="no-files")


def _told(job: Job, files: Sequence[File], dataset: Dataset, url: Callable[[str], str]) -> Finished:
    urls = url(f"/v1/jobs/{job.id}/files/selected.parquet"), url(f"/v1/datasets/{dataset.id}")
    return Finished(job, {file.name: file for file in files}, dataset, urls)


def _record(told: Finished, folder: str | None, *, run_id: str | None, context: str) -> str:
    import mlflow

    job, dataset = told.job, told.dataset
    active = mlflow.active_run()
    # A run that is under way stays so; one that is made here, or opened again, is closed here.
    if active is not None and run_id in {None, active.info.run_id}:
        opened = None
    else:
        name = None if run_id else job.name or job.id
        opened = mlflow.start_run(run_id=run_id, run_name=name, nested=active is not None)
    identity = str((opened or active).info.run_id)
    try:
        chosen = told.files["selected.parquet"].sha256
        _input(told.urls[0], job.name or job.id, chosen, context)
        if dataset.digest is not None:
            _input(told.urls[1], dataset.name or dataset.id, dataset.digest.sha256, "selection_pool")
        mlflow.set_tags({"spice.job_id": job.id, "spice.dataset_id": dataset.id, "spice.selected_sha256": chosen})
        parameters = iter(_parameters(job.config, "spice."))
        while some := dict(islice(parameters, MOST_PARAMETERS)):
            mlflow.log_params(some)
        mlflow.log_metrics(_metrics(job))
        if folder is not None:
            mlflow.log_artifacts(folder, FOLDER)
    finally:
        if opened is not None:
            mlflow.end_run()
    return identity


def _input(url: str, name: str, sha256: str, context: str) -> None:
    import mlflow
    from mlflow.data.http_dataset_source import HTTPDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    digest = sha256[:DIGEST_CHARACTERS]
    mlflow.log_input(
        MetaDataset(HTTPDatasetSource(url), name=name, digest=digest), context=context, tags={"sha256": sha256}
    )


def _parameters(config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _parameters(value, f"{prefix}{key}.")
        elif value is not None and value != []:
            yield f"{prefix}{key}", str(value)[:MOST_CHARACTERS]


def _metrics(job: Job) -> dict[str, float]:
    result = job.result
    assert result is not None
    certificate, control = result.certificate, result.random_control
    numbers: dict[str, float | None] = {
        "selected": result.selected,
        "pool": result.pool,
        "excluded": result.excluded,
        "truncated": result.truncated,
        "tokens_selected": result.tokens_selected,
        "tokens_pool": result.tokens_pool,
        "utility": result.utility,
        "utility_random": None if control is None else control.utility,
        "upper_bound": None if certificate is None else certificate.upper_bound,
        "proven_ratio": None if certificate is None else certificate.ratio,
        "first_gain": result.first_gain,
        "last_gain": result.last_gain,
        "mean_conflict": result.mean_conflict,
        **{f"seconds_{name}": value for name, value in result.seconds.items()},
    }
    return {f"spice.{name}": float(value) for name, value in numbers.items() if value is not None}
