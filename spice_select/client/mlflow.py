"""A job in an MLflow run: the selected rows as an input with their digest, settings, numbers, files."""

from __future__ import annotations

import importlib.util
from itertools import islice

from spice_select.client.finished_job import FinishedJob, metrics, parameters
from spice_select.errors import ConfigError

DIGEST_CHARACTERS = 36
"""MLflow refuses longer digests; the whole one is in a tag."""
MOST_PARAMETERS = 100
"""MLflow takes no more in one call."""
FOLDER = "spice-select"


def require_mlflow() -> None:
    """Check that MLflow can be imported.

    Raises:
        ConfigError: It is not installed.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise ConfigError("MLflow is not installed here: pip install mlflow (or mlflow-skinny)")


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
        selected = finished.selected_sha256
        _log_input(finished.selected_url, job.name or job.id, selected, context)
        if dataset.digest is not None:
            url = finished.url(f"/v1/datasets/{dataset.id}")
            _log_input(url, dataset.name or dataset.id, dataset.digest.sha256, "selection_pool")
        mlflow.set_tags({"spice.job_id": job.id, "spice.dataset_id": dataset.id, "spice.selected_sha256": selected})
        settings = iter(parameters(job.config))
        while some := dict(islice(settings, MOST_PARAMETERS)):
            mlflow.log_params(some)
        mlflow.log_metrics(metrics(job))
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
