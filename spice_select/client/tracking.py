"""A job in an MLflow run: what was chosen as an input with its digest, settings, numbers, files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spice_select.client.models import Job
from spice_select.errors import ClientError, ConfigError

if TYPE_CHECKING:
    from spice_select.client.blocking import Client

DIGEST_CHARACTERS = 36
"""MLflow keeps no longer digest; the whole one is in a tag beside it."""
MOST_PARAMETERS = 100
"""MLflow takes no more in one call."""
MOST_CHARACTERS = 6000
FOLDER = "spice-select"


def log_job(client: Client, job_id: str, *, run_id: str | None, context: str, artifacts: bool) -> str:
    """See ``Client.log_to_mlflow``.

    Raises:
        ClientError: The job has no result.
        ConfigError: MLflow is not installed.
    """
    try:
        import mlflow
    except ImportError as error:
        raise ConfigError("MLflow is not installed here: pip install mlflow (or mlflow-skinny)") from error
    job = client.jobs.get(job_id)
    files = {file.name: file for file in client.jobs.files(job_id)} if job.result is not None else {}
    if job.result is None or not files:
        raise ClientError(f"{job.id} has no result: it is {job.status}", code="no-files")
    dataset = client.datasets.get(job.dataset_id or "")
    active = mlflow.active_run()
    # A run that is under way stays so; one that is made here, or opened again, is closed here.
    if active is not None and run_id in {None, active.info.run_id}:
        opened = None
    else:
        name = None if run_id else job.name or job.id
        opened = mlflow.start_run(run_id=run_id, run_name=name, nested=active is not None)
    identity = str((opened or active).info.run_id)
    try:
        chosen = files["selected.parquet"].sha256
        _input(client.url(f"/v1/jobs/{job.id}/files/selected.parquet"), job.name or job.id, chosen, context)
        if dataset.digest is not None:
            pool = client.url(f"/v1/datasets/{dataset.id}")
            _input(pool, dataset.name or dataset.id, dataset.digest.sha256, "selection_pool")
        mlflow.set_tags({"spice.job_id": job.id, "spice.dataset_id": dataset.id, "spice.selected_sha256": chosen})
        parameters = iter(_parameters(job.config, "spice."))
        while some := dict(islice(parameters, MOST_PARAMETERS)):
            mlflow.log_params(some)
        mlflow.log_metrics(_metrics(job))
        if artifacts:
            with tempfile.TemporaryDirectory(prefix="spice-mlflow-") as folder:
                client.jobs.download(job.id, Path(folder))
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
