"""What a job cannot be given, refused before anything is computed or stored for it."""

from __future__ import annotations

from typing import Any

from app.errors import ServiceError
from app.persistence.repositories import Datasets
from app.persistence.session import Database
from app.persistence.tables import Dataset
from app.status import DatasetStatus
from app.storage import ArtifactStore
from spice_select.config import RunConfig, SelectionConfig
from spice_select.errors import ConfigError
from spice_select.records.objectives import check_objective
from spice_select.selection.validation import check_screens, check_targets, group_of

MOST_NAMED = 20
MOST_GROUPED = 200_000
"""Usable rows up to which quotas are held against the groups of the data set before anything is computed."""


def usable_dataset(session: Any, project_id: str, dataset_id: str, pointer: str) -> Dataset:
    """A data set of the project that is ready, and cannot be deleted before the transaction ends.

    Args:
        session: The running transaction.
        project_id: Owner.
        dataset_id: The data set.
        pointer: Where the request names it.

    Raises:
        ServiceError: ``not-found``, ``dataset-not-ready`` or ``dataset-invalid``.
    """
    dataset = Datasets(session).hold(project_id, dataset_id)
    if dataset is None:
        raise ServiceError("not-found", f"there is no data set {dataset_id}", pointer=pointer)
    refuse_unready(dataset, pointer)
    return dataset


def refuse_unready(dataset: Dataset, pointer: str | None = None) -> None:
    """Refuse a data set that has no rows yet, or never will.

    Args:
        dataset: The data set.
        pointer: Where the request's body names it.

    Raises:
        ServiceError: ``dataset-not-ready`` or ``dataset-invalid``.
    """
    if dataset.status == DatasetStatus.VALIDATING:
        detail, wait = "the data set is still being validated", {"Retry-After": "2"}
        raise ServiceError("dataset-not-ready", detail, pointer=pointer, headers=wait)
    if dataset.status == DatasetStatus.INVALID:
        reason = (dataset.error or {}).get("detail", "it was found invalid")
        raise ServiceError("dataset-invalid", f"the data set cannot be used: {reason}", pointer=pointer)


def check_dataset_objective(config: RunConfig, dataset: Dataset, pointer: str = "#/gradients/objective") -> None:
    """Refuse an objective that a data set is not for.

    Args:
        config: Settings of the job.
        dataset: The data set, which is ready.
        pointer: Where the request's body names what does not fit.

    Raises:
        ConfigError: It is not one of those that are possible, which are named.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by check_objective()
    form: Any = dataset.format
    columns: Any = dataset.columns or {}
    what = "the data set" if pointer.endswith("objective") else f"the data set {dataset.id}"
    check_objective(config.gradients.objective, form, columns, what=what, pointer=pointer)


def check_groups(selection: SelectionConfig, dataset: Dataset) -> None:
    """Refuse groups that the data set does not have.

    Args:
        selection: Settings of the job.
        dataset: Its data set.

    Raises:
        ServiceError: ``config-invalid``.
    """
    column = selection.quotas.column if selection.quotas is not None else None
    if selection.method == "stratified" and column is None:
        raise ServiceError(
            "config-invalid", "the method stratified needs selection.quotas.column", pointer="#/selection/quotas"
        )
    if selection.quotas is not None and column is None:
        raise ServiceError("config-invalid", "quotas need a column", pointer="#/selection/quotas/column")
    if column is not None and column not in (dataset.column_names or []):
        raise ServiceError(
            "config-invalid", f"the data set has no column {column!r}", pointer="#/selection/quotas/column"
        )


def check_benchmarks(session: Any, project_id: str, config: RunConfig) -> None:
    """The data sets that nothing of may be trained on are there, and the screens can be had from the proxy.

    Args:
        session: The running transaction.
        project_id: Owner.
        config: Settings of the job.

    Raises:
        ConfigError: Losses of a proxy that was never trained.
        ServiceError: ``not-found``, ``dataset-not-ready`` or ``dataset-invalid``.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the calls
    check_screens(config)
    for number, dataset_id in enumerate(config.conditions.screens.contamination):
        usable_dataset(session, project_id, dataset_id, f"#/screens/contamination/{number}")


def target_dataset(session: Any, project_id: str, config: RunConfig, pool: Dataset) -> Dataset | None:
    """The data set that the choice is to be close to; None unless the method is ``less``.

    Args:
        session: The running transaction.
        project_id: Owner.
        config: Settings of the job.
        pool: The data set to select from.

    Raises:
        ConfigError: ``less`` without a target, a target that the method has no use for, or the pool itself.
        ServiceError: ``not-found``, ``dataset-not-ready`` or ``dataset-invalid``.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the calls
    target = config.conditions.target_dataset_id
    names = [] if target is None else ["target"]
    check_targets(config, names, [1.0] * len(names), "#/target_dataset_id" if names else "#/targets")
    if target is None:
        return None
    target_set = usable_dataset(session, project_id, target, "#/target_dataset_id")
    check_dataset_objective(config, target_set, "#/target_dataset_id")
    if target_set.rows_sha256 == pool.rows_sha256:
        raise ConfigError(
            "the target is the data set to select from: nothing would be left of it", pointer="#/target_dataset_id"
        )
    return target_set


def read_groups(
    database: Database, store: ArtifactStore, project_id: str, dataset_id: str, column: str
) -> dict[int, str]:
    """The group of every usable row by its number in the source, read before the transaction that makes the job.

    Args:
        database: Where the records are.
        store: Where the bytes are.
        project_id: Owner.
        dataset_id: The data set; one that is not there, not ready or very large has no groups here.
        column: Column that names the group.
    """
    with database.read() as session:
        dataset = Datasets(session).get(project_id, dataset_id)
    if dataset is None or dataset.status != DatasetStatus.READY or (dataset.num_usable or 0) > MOST_GROUPED:
        return {}
    from spice_select.ingest import iter_rows

    return {
        row.source_row: group_of(row.record, column)
        for shard in dataset.shards or []
        for row in iter_rows(store.intact(dataset.project_id, shard["sha256"]))
    }
