"""Every reason for which a job is refused, asked in one place: the estimate of a job is refused for the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from app.errors import ServiceError
from app.persistence.repositories import Datasets, GradientSets, Jobs, Units
from app.persistence.tables import Dataset, GradientSet, Job
from app.services.jobs.planning import check_parts, pool_of, prefilter_of, set_config, set_fingerprint
from app.services.jobs.request import JobRequest
from app.services.jobs.targets import TargetRows
from app.services.jobs.validation import (
    MOST_NAMED,
    check_benchmarks,
    check_dataset_objective,
    check_groups,
    target_dataset,
    usable_dataset,
)
from app.status import ACTIVE, GradientSetStatus
from spice_select.config import RunConfig
from spice_select.selection.validation import check_prefilter, check_quotas, check_settings


def check_job(
    session: Any,
    project_id: str,
    request: JobRequest,
    config: RunConfig,
    revision: str,
    rows: TargetRows | None,
    groups: Mapping[int, str],
) -> tuple[Dataset, Dataset | None]:
    """Refuse a job that cannot be done, whatever there is of memory and disk.

    Args:
        session: The running transaction.
        project_id: Owner.
        request: What is asked for.
        config: Settings of the job.
        revision: Of its proxy model.
        rows: The rows of its targets and protected sets; None for a job without any.
        groups: Group of every usable row, for quotas; empty where they are left to the selection.

    Returns:
        The data set to select from, and that of the targets, which is not recorded where it was made of ``rows``.

    Raises:
        ServiceError: What is wrong, with a pointer.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the calls
    dataset = usable_dataset(session, project_id, request.dataset_id, "#/dataset_id")
    check_dataset_objective(config, dataset)
    check_groups(config.selection, dataset)
    check_parts(config.selection)
    check_benchmarks(session, project_id, config)
    if request.target_rows_id is not None:
        target: Dataset | None = usable_dataset(session, project_id, request.target_rows_id, "#/targets")
    else:
        target = target_dataset(session, project_id, config, dataset) if rows is None else rows.unrecorded()
    targets = len(config.conditions.targets) + (config.conditions.target_dataset_id is not None)
    check_prefilter(config, targets, dataset.num_usable or 0)
    find_set = partial(_known_set, session, dataset, target, config, revision)
    check_conditions(session, config, dataset, revision, groups, request.base_pointer, find_set)
    return dataset, target


def _known_set(
    session: Any, dataset: Dataset, target: Dataset | None, config: RunConfig, revision: str
) -> GradientSet | None:
    prefilter = prefilter_of(session, dataset, target, config, revision)
    fingerprint = set_fingerprint(dataset, config, revision, pool_of(dataset), prefilter)
    return GradientSets(session).by_fingerprint(dataset.project_id, fingerprint)


def check_conditions(
    session: Any,
    config: RunConfig,
    dataset: Dataset,
    revision: str,
    groups: Mapping[int, str],
    base_pointer: str,
    find_set: Callable[[], GradientSet | None],
) -> None:
    """Refuse settings that no selection from this data set can meet.

    Args:
        session: The running transaction.
        config: Settings of the job.
        dataset: Its data set.
        revision: Of its proxy model.
        groups: Group of every usable row, for quotas; empty where they are left to the selection.
        base_pointer: Where the request names the job that it adds to.
        find_set: Looks for its gradients.

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
        check_given_job(session, dataset, conditions.given_job, set_config(config, revision), base_pointer)
        owned = set(Jobs(session).owned_rows(dataset.project_id, conditions.given_job))
        both = sorted(owned & set(conditions.must_include))
        if both:
            place = conditions.must_include.index(both[0])
            detail = f"rows {both[:MOST_NAMED]} must be included and are owned already"
            raise ServiceError("config-invalid", detail, pointer=f"#/must_include/{place}")
    check_settings(config, dataset.num_usable or 0, unavailable=len(excluded | owned))
    if groups:
        check_quotas(config, Counter(name for row, name in groups.items() if row not in excluded | owned))
    tokens = config.selection.budget.tokens
    shortest = _shortest(session, find_set()) if tokens is not None else None
    if tokens is not None and shortest is not None and tokens < shortest:
        raise ServiceError(
            "budget-exceeds-pool", f"tokens is {tokens}, the shortest sample has {shortest}", pointer="#/budget/tokens"
        )


def _shortest(session: Any, gradient_set: GradientSet | None) -> int | None:
    """Tokens of the shortest candidate; None until the gradients are there."""
    if gradient_set is None or gradient_set.status != GradientSetStatus.READY:
        return None
    lengths = [commit.result.get("shortest") for _, commit in Units(session).shard_commits(gradient_set.id)]
    known = [tokens for tokens in lengths if tokens is not None]
    return min(known) if len(known) == len(lengths) and known else None


def check_given_job(
    session: Any, dataset: Dataset, job_id: str, measured: Mapping[str, Any], pointer: str = "#/given_job"
) -> None:
    """Refuse a job whose choice cannot be built upon; it cannot be deleted before the transaction ends.

    Args:
        session: The running transaction.
        dataset: The data set to select from.
        job_id: The job.
        measured: ``set_config`` of the gradients to select by.
        pointer: Where the request names the job.

    Raises:
        ServiceError: ``not-found``, ``given-job-not-finished``, or ``given-job-unusable`` when it has no choice, or one
            from other gradients.
    """
    given = Jobs(session).hold(dataset.project_id, job_id)
    if given is None:
        raise ServiceError("not-found", f"there is no job {job_id}", pointer=pointer)
    if not _begins_with(session, dataset, given.dataset_id) or not _measured_alike(session, given, measured):
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
    for earlier in Jobs(session).given_chain(dataset.project_id, given.id)[1:]:
        if Jobs(session).hold(dataset.project_id, earlier.id) is None:
            raise ServiceError(
                "given-job-unusable",
                f"the given job adds to job {earlier.id}, which was deleted: its rows are no longer known as owned",
                pointer=pointer,
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


def _measured_alike(session: Any, given: Job, measured: Mapping[str, Any]) -> bool:
    """Whether the gradients of a job were taken as others are: with the same proxy and settings, of whichever rows."""
    found = GradientSets(session).get(given.project_id, given.gradient_set_id)
    return found is not None and {name: found.config.get(name) for name in measured} == measured
