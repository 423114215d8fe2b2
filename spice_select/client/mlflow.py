"""A job in an MLflow run: the selected rows as an input with their digest, settings, numbers, files."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from spice_select.client.models import Dataset, File, Job
from spice_select.errors import ClientError, ConfigError

DIGEST_CHARACTERS = 36
"""MLflow refuses longer digests; the whole one is in a tag."""
MOST_PARAMETERS = 100
"""MLflow takes no more in one call."""
MOST_CHARACTERS = 6000
FOLDER = "spice-select"


@dataclass(frozen=True)
class FinishedJob:
    """What is logged of a job.

    Attributes:
        job: A job with a result.
        files: Its files.
        dataset: The data set it selected from.
        url: Makes the address of a path of the service.
    """

    job: Job
    files: Sequence[File]
    dataset: Dataset
    url: Callable[[str], str]


def require_mlflow() -> None:
    """Check that MLflow can be imported.

    Raises:
        ConfigError: It is not installed.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise ConfigError("MLflow is not installed here: pip install mlflow (or mlflow-skinny)")


def require_result(job: Job, files: Sequence[File]) -> None:
    """Check that a job has something to log.

    Args:
        job: The job.
        files: Its files.

    Raises:
        ClientError: It has no result.
    """
    if job.result is None or not files:
        raise ClientError(f"{job.id} has no result: it is {job.status}", code="no-files")


def log(finished: FinishedJob, folder: str | None, *, run_id: str | None, context: str) -> str:
    """Log a job to an MLflow run.

    Args:
        finished: The job.
        folder: Its downloaded files, to be stored in the run; None stores none.
        run_id: A run to open again; None for the active one, or a new one where there is none.
        context: What the run does with the rows, in MLflow's words.

    Returns:
        Id of the run.
    """
    import mlflow

    job, dataset = finished.job, finished.dataset
    active = mlflow.active_run()
    # An active run stays active; one that is started here, or opened again, is closed here.
    if active is not None and run_id in {None, active.info.run_id}:
        opened = None
    else:
        name = None if run_id else job.name or job.id
        opened = mlflow.start_run(run_id=run_id, run_name=name, nested=active is not None)
    identity = str((opened or active).info.run_id)
    try:
        selected = next(file.sha256 for file in finished.files if file.name == "selected.parquet")
        url = finished.url(f"/v1/jobs/{job.id}/files/selected.parquet")
        _log_input(url, job.name or job.id, selected, context)
        if dataset.digest is not None:
            url = finished.url(f"/v1/datasets/{dataset.id}")
            _log_input(url, dataset.name or dataset.id, dataset.digest.sha256, "selection_pool")
        mlflow.set_tags({"spice.job_id": job.id, "spice.dataset_id": dataset.id, "spice.selected_sha256": selected})
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


def _log_input(url: str, name: str, sha256: str, context: str) -> None:
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
