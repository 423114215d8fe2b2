"""What a job cannot be given, refused before anything is computed or stored for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from app.errors import ServiceError
from app.persistence.repositories import Datasets, GradientSets, Jobs, Units
from app.persistence.session import Database
from app.persistence.tables import Dataset, GradientSet, Job
from app.status import ACTIVE, DatasetStatus, GradientSetStatus
from app.storage import ArtifactStore
from spice_select.config import RunConfig, SelectionConfig
from spice_select.errors import ConfigError
from spice_select.records.objectives import check_objective
from spice_select.selection.validation import check_quotas, check_screens, check_settings, check_targets, group_of

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


def check_target_sets(session: Any, project_id: str, config: RunConfig, dataset: Dataset) -> None:
    """The data sets that targets and protected sets are made of are there; their rows are not looked at.

    Args:
        session: The running transaction.
        project_id: Owner.
        config: Settings of the job.
        dataset: The data set to select from.

    Raises:
        ServiceError: ``not-found``, ``dataset-not-ready`` or ``dataset-invalid``.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by usable_dataset()
    conditions = config.conditions
    for role, sets in (("targets", conditions.targets), ("protect", conditions.protect)):
        for number, one in enumerate(sets):
            if one.dataset_id is not None:
                usable_dataset(session, project_id, one.dataset_id, f"#/{role}/{number}/dataset_id")
    if not conditions.targets:
        target_dataset(session, project_id, config, dataset)


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


def check_conditions(
    session: Any,
    config: RunConfig,
    dataset: Dataset,
    gradient_set: GradientSet,
    groups: Mapping[int, str],
    base_pointer: str = "#/given_job",
) -> None:
    """Refuse settings that no selection from this data set can meet.

    Args:
        session: The running transaction.
        config: Settings of the job.
        dataset: Its data set.
        gradient_set: Its gradients.
        groups: Group of every usable row, for quotas; empty where they are left to the selection.
        base_pointer: Where the request names the job that it adds to.

    Raises:
        ServiceError: ``budget-exceeds-pool``, ``config-invalid``, ``pool-invalid`` for rows that the data set does not
            have or cannot use, or what is wrong with the job whose choice is given.
    """
    conditions, size = config.conditions, dataset.num_rows or 0
    named = [*conditions.must_include, *conditions.exclude]
    unusable = Datasets(session).rejected_among(dataset.id, named)
    findings = [
        {"detail": f"the data set has {size} rows, there is no row {row}", "pointer": f"#/{name}/{place}"}
        for name, rows in (("must_include", conditions.must_include), ("exclude", conditions.exclude))
        for place, row in enumerate(rows)
        if row >= size
    ]
    findings += [
        {"detail": f"row {row} cannot be used: {unusable[row]}", "pointer": f"#/must_include/{place}"}
        for place, row in enumerate(conditions.must_include)
        if row in unusable
    ]
    if findings:
        raise ServiceError("pool-invalid", findings[0]["detail"], errors=findings[:MOST_NAMED])
    excluded = set(conditions.exclude) - unusable.keys()
    owned: set[int] = set()
    if conditions.given_job is not None:
        check_given_job(session, dataset, conditions.given_job, gradient_set.id, base_pointer)
        owned = set(Jobs(session).selected_rows(conditions.given_job))
        both = sorted(owned & set(conditions.must_include))
        if both:
            place = conditions.must_include.index(both[0])
            detail = f"rows {both[:MOST_NAMED]} must be included and are owned already"
            raise ServiceError("config-invalid", detail, pointer=f"#/must_include/{place}")
    check_settings(config, dataset.num_usable or 0, unavailable=len(excluded | owned))
    if groups:
        check_quotas(config, Counter(name for row, name in groups.items() if row not in excluded | owned))
    tokens = config.selection.budget.tokens
    shortest = _shortest(session, gradient_set) if tokens is not None else None
    if tokens is not None and shortest is not None and tokens < shortest:
        raise ServiceError(
            "budget-exceeds-pool", f"tokens is {tokens}, the shortest sample has {shortest}", pointer="#/budget/tokens"
        )


def _shortest(session: Any, gradient_set: GradientSet) -> int | None:
    """Tokens of the shortest candidate; None until the gradients are there."""
    if gradient_set.status != GradientSetStatus.READY:
        return None
    lengths = [commit.result.get("shortest") for _, commit in Units(session).shard_commits(gradient_set.id)]
    known = [tokens for tokens in lengths if tokens is not None]
    return min(known) if len(known) == len(lengths) and known else None


def check_given_job(
    session: Any, dataset: Dataset, job_id: str, gradient_set_id: str | None, pointer: str = "#/given_job"
) -> None:
    """Refuse a job whose choice cannot be built upon; it cannot be deleted before the transaction ends.

    Args:
        session: The running transaction.
        dataset: The data set to select from.
        job_id: The job.
        gradient_set_id: The gradients to select by; None where they are not known yet.
        pointer: Where the request names the job.

    Raises:
        ServiceError: ``not-found``, ``given-job-not-finished``, or ``given-job-unusable`` when it has no choice, or one
            from other gradients.
    """
    given = Jobs(session).hold(dataset.project_id, job_id)
    if given is None:
        raise ServiceError("not-found", f"there is no job {job_id}", pointer=pointer)
    if not _begins_with(session, dataset, given.dataset_id) or not _measured_alike(session, given, gradient_set_id):
        raise ServiceError(
            "given-job-unusable",
            "the given job chose from another data set, or by gradients of another proxy or other settings",
            pointer=pointer,
        )
    if given.status in ACTIVE:
        raise ServiceError(
            "given-job-not-finished",
            f"the given job is {given.status}",
            pointer=pointer,
            headers={"Retry-After": "2"},
        )
    if given.result is None:
        raise ServiceError(
            "given-job-unusable", f"the given job ended without a result: {given.status}", pointer=pointer
        )


def _begins_with(session: Any, dataset: Dataset, earlier_id: str) -> bool:
    """Whether a data set is another one, or a later version of it: then its rows have the same numbers."""
    ids: list[str] = []
    version: Dataset | None = dataset
    while version is not None and version.id not in ids:
        if version.id == earlier_id:
            return True
        ids.append(version.id)
        version = None if version.appended_to is None else Datasets(session).get_even_deleted(version.appended_to)
    return False


def _measured_alike(session: Any, given: Job, gradient_set_id: str | None) -> bool:
    """Whether the gradients of a job were taken as those of a set are: with the same proxy and settings."""
    if gradient_set_id in {None, given.gradient_set_id}:
        return True
    sets = GradientSets(session)
    one, other = (sets.get(given.project_id, name) for name in (given.gradient_set_id, gradient_set_id or ""))
    return one is not None and other is not None and one.config == other.config
