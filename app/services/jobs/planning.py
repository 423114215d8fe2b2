"""What a job becomes: gradient sets that it shares with others, and the units of its selection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from app.errors import NotFoundError, ServiceError
from app.ids import new_id
from app.persistence.repositories import Datasets, GradientSets, Jobs, Units
from app.persistence.repositories.rows import now
from app.persistence.session import Database
from app.persistence.tables import Dataset, GradientSet
from app.persistence.types import clock
from app.services.jobs.progress import ShardView, shard_view
from app.status import GradientSetStatus, UnitKind, UnitState
from spice_select.config import PartitionedScope, RunConfig, SelectionConfig
from spice_select.fingerprint import (
    conversations_sha256,
    gradient_fingerprint,
    periodic_fingerprint,
    pool_sha256,
    prefilter_fingerprint,
    prefiltered_fingerprint,
    shard_fingerprints,
    warmup_fingerprint,
)
from spice_select.selection.validation import NEEDS_TARGETS

MAX_PARTS = 1024
"""Most parts of a job: each is a unit, and a part should be large enough to be worth a worker's while."""
PARTS_VERSION = 2
"""A worker must know this version of units to take a part, or a selection that has to wait for parts."""
TUNED_VERSION = 4
"""A worker must know this version of units to take any work on a proxy model that is tuned."""
PREFILTER_VERSION = 5
"""A worker must know this version of units to rank a pool, or to take gradients of the rows that are kept."""
WHOLE = "whole_fingerprint"
"""In the settings of a set with a prefilter: what the gradients of every row of the pool would be called."""


def check_parts(selection: SelectionConfig) -> None:
    """Refuse more parts than a job may have.

    Args:
        selection: What the job asks for.

    Raises:
        ServiceError: ``config-invalid``.
    """
    if isinstance(selection.scope, PartitionedScope) and selection.scope.parts > MAX_PARTS:
        raise ServiceError("config-invalid", f"a job has at most {MAX_PARTS} parts", pointer="#/selection/scope/parts")


def least_version(config: RunConfig) -> int:
    """Version of units that a worker must know for every unit of a job, whatever kind it is.

    Args:
        config: Settings of the job.
    """
    if config.conditions.prefilter is not None:
        return PREFILTER_VERSION
    return TUNED_VERSION if config.gradients.warmup_steps or config.schedule.kind == "periodic" else 1


def selection_units(config: RunConfig, usable: int) -> Iterator[dict[str, Any]]:
    """The units of one selection: one, or one for each part of the pool and one for the second round.

    The parts are there from the start and wait for the gradients in the database, as the second round waits for them.

    Args:
        config: Settings of the job.
        usable: Usable rows of the data set. Fewer may become candidates; a part too many then chooses nothing.

    Yields:
        Columns of each unit that differ from the job's.
    """
    selection, version = config.selection, least_version(config)
    # Rankings by a target: one pass over the pool is all there is.
    if not isinstance(selection.scope, PartitionedScope) or selection.method in NEEDS_TARGETS:
        yield {"kind": UnitKind.SELECT, "shard": None, "schema_version": version, "total": 0}
        return
    parts = min(selection.scope.parts, usable)
    wanted = selection.budget.resolve_count(usable) or 0
    newer = {"schema_version": max(version, PARTS_VERSION)}
    for number in range(parts):
        picks = min(wanted, selection.max_count or wanted, usable // parts + (number < usable % parts))
        yield {"kind": UnitKind.SELECT_PART, "shard": number, "total": picks, **newer}
    yield {"kind": UnitKind.SELECT, "shard": None, "total": 0, **newer}


def adopt_parts(session: Any, rows: Iterable[Mapping[str, Any]], earlier_job_id: str, gradient_set_id: str) -> None:
    """End the parts of a job that is tried again with what the earlier one selected from them, by the same gradients.

    Args:
        session: The running transaction.
        rows: The units of the new job, as they were inserted.
        earlier_job_id: The job that is tried again.
        gradient_set_id: That of the new job.
    """
    units = Units(session)
    done = {
        unit.shard: commit
        for unit, commit in units.part_commits(earlier_job_id)
        if unit.state == UnitState.DONE and unit.gradient_set_id == gradient_set_id
    }
    for row in rows:
        if row["kind"] == UnitKind.SELECT_PART and row["shard"] in done:
            units.adopt(row["id"], done[row["shard"]])


_UNMADE = (GradientSetStatus.FAILED, GradientSetStatus.EXPIRED)
"""States in which nothing is on its way."""


class GradientSetService:
    """What is known of gradient sets.

    Args:
        database: Where the records are.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def get(self, project_id: str, gradient_set_id: str) -> tuple[GradientSet, list[ShardView]]:
        """One gradient set and its shards, in the order of the pool.

        Raises:
            NotFoundError: There is none of this id in the project.
        """
        with self.database.read() as session:
            gradient_set = GradientSets(session).get(project_id, gradient_set_id)
            if gradient_set is None:
                raise NotFoundError(f"gradient set {gradient_set_id}")
            units, moment = Units(session), now(session)
            done = {unit.id: commit.result for unit, commit in units.shard_commits(gradient_set_id)}
            return gradient_set, [
                shard_view(unit, done.get(unit.id) if unit.state == UnitState.DONE else None, moment)
                for unit in units.shards(gradient_set_id)
            ]

    def page(self, project_id: str, *, before: str | None, limit: int) -> list[GradientSet]:
        """Gradient sets, newest first."""
        with self.database.read() as session:
            return GradientSets(session).page(project_id, before=before, limit=limit)


def pool_of(dataset: Dataset) -> str:
    """Sha256 (hex) of all that a warm-up or a periodic choice can see of a data set."""
    return pool_sha256(dataset.rows_sha256 or "", dataset.shards or [])


def whole_fingerprint(gradient_set: GradientSet) -> str:
    """Name of the gradients of every row of a pool, also where a prefilter keeps only some of them."""
    return str(gradient_set.config.get(WHOLE, gradient_set.fingerprint))


def prefilter_of(
    session: Any, dataset: Dataset, target: Dataset | None, config: RunConfig, revision: str
) -> str | None:
    """Name of the ranking that says which rows of a pool get gradients; None where all do.

    Args:
        session: The running transaction.
        dataset: The pool.
        target: The data set of the targets and protected sets, recorded or not.
        config: Settings of the job.
        revision: Of its proxy model.
    """
    conditions = config.conditions
    if conditions.prefilter is None or target is None:
        return None
    return prefilter_fingerprint(
        pool=pool_of(dataset),
        targets=pool_of(target),
        owned=Jobs(session).owned_rows(dataset.project_id, conditions.given_job),
        proxy_revision=revision,
        config=config,
        weights=[(one.name, one.weight) for one in conditions.targets],
    )


def set_config(config: RunConfig, revision: str) -> dict[str, Any]:
    """What the gradients of a job are measured with; jobs that agree in it can add to each other.

    Args:
        config: Settings of the job.
        revision: Of its proxy model.
    """
    return {
        "proxy": config.proxy.model_dump(mode="json"),
        "proxy_revision": revision,
        "gradients": config.gradients.model_dump(mode="json"),
        **({"schedule": config.schedule.model_dump(mode="json")} if config.schedule.kind == "periodic" else {}),
    }


def set_fingerprint(dataset: Dataset, config: RunConfig, revision: str, pool: str, prefilter: str | None = None) -> str:
    """Name of the gradients of a data set; of the whole course of the choice for the schedule ``periodic``.

    Args:
        dataset: Whose gradients.
        config: Settings of the job.
        revision: Of the proxy model.
        pool: ``pool_of`` the data set that the job chooses from, which is what a warm-up sees.
        prefilter: ``prefilter_of`` the pool, for the gradients of the pool.
    """
    if config.schedule.kind == "periodic":
        return periodic_fingerprint(pool=pool, proxy_revision=revision, config=config)
    rows = conversations_sha256(dataset.rows_sha256 or "", dataset.shards or [])
    whole = gradient_fingerprint(rows_sha256=rows, proxy_revision=revision, config=config.gradients, pool=pool)
    return prefiltered_fingerprint(whole, prefilter)


def needed_sets(
    session: Any, chosen_from: Dataset, target: Dataset | None, config: RunConfig, revision: str
) -> dict[str, tuple[GradientSet, bool]]:
    """The gradient sets of a job by the id of their data set, and whether each is complete already.

    Args:
        session: The running transaction.
        chosen_from: The data set that the job chooses from.
        target: The data set of the targets, which is measured beside it in the same way.
        config: Settings of the job.
        revision: Of its proxy model.
    """
    pool = pool_of(chosen_from)
    fingerprint = warmup_fingerprint(pool=pool, proxy_revision=revision, config=config.gradients)
    steps, rows = config.gradients.warmup_steps, chosen_from.num_usable or 0
    warmup = _prepared(session, chosen_from, UnitKind.WARMUP, fingerprint, steps, config)
    prefilter = prefilter_of(session, chosen_from, target, config, revision)
    ranking = _prepared(session, chosen_from, UnitKind.PREFILTER, prefilter, rows, config)
    # Always in one order, so that two calls cannot deadlock.
    beside = set() if target is None else {target}
    ordered = sorted({chosen_from, *beside}, key=lambda dataset: (dataset.rows_sha256 or "", dataset.id))
    kept = {chosen_from.id: (prefilter, ranking)}
    return {
        dataset.id: _needed(session, dataset, config, revision, pool, warmup, kept.get(dataset.id, (None, None)))
        for dataset in ordered
    }


def _prepared(
    session: Any, dataset: Dataset, kind: UnitKind, fingerprint: str | None, total: int, config: RunConfig
) -> str | None:
    """Id of the unit that warms the proxy model up on this data set, or ranks it; None without a fingerprint.

    One unit serves every gradient set of the project that waits for the same.
    """
    if fingerprint is None:
        return None
    Datasets(session).lock(dataset.id)  # two calls at once must not make two
    units = Units(session)
    known = units.named(dataset.project_id, kind, fingerprint)
    if known is not None:
        if known.state == UnitState.DEAD:  # whatever made it fail may have passed
            units.reopen([known.id])
        return known.id
    unit_id = new_id("unit")
    units.add_all(
        [
            {
                "id": unit_id,
                "project_id": dataset.project_id,
                "kind": kind,
                "dataset_id": dataset.id,
                "fingerprint": fingerprint,
                "total": total,
                "schema_version": least_version(config),
            }
        ]
    )
    return unit_id


def _needed(
    session: Any,
    dataset: Dataset,
    config: RunConfig,
    revision: str,
    pool: str,
    warmup: str | None,
    kept: tuple[str | None, str | None],
) -> tuple[GradientSet, bool]:
    """Find or make the gradient set, and whether it is complete already."""
    sets, units = GradientSets(session), Units(session)
    fingerprint = set_fingerprint(dataset, config, revision, pool, kept[0])
    sets.join(dataset.project_id, fingerprint)
    gradient_set = sets.by_fingerprint(dataset.project_id, fingerprint)
    if gradient_set is None:
        _add(session, dataset, fingerprint, config, revision, pool, warmup, kept)
        gradient_set = sets.by_fingerprint(dataset.project_id, fingerprint)
    elif gradient_set.status in _UNMADE:
        gradient_set = sets.lock_by_fingerprint(dataset.project_id, fingerprint)
    assert gradient_set is not None
    if gradient_set.status in _UNMADE:
        # Whatever made it fail may have passed; the shards that are done stay done.
        units.reopen([unit.id for unit in units.shards(gradient_set.id) if unit.state == UnitState.DEAD])
        sets.set_status(gradient_set.id, GradientSetStatus.COMPUTING)
    return gradient_set, gradient_set.status == GradientSetStatus.READY and config.schedule.kind != "periodic"


def _add(
    session: Any,
    dataset: Dataset,
    fingerprint: str,
    config: RunConfig,
    revision: str,
    pool: str,
    warmup: str | None,
    kept: tuple[str | None, str | None],
) -> None:
    """Make the gradient set, with a unit for each shard, unless another call has just made it."""
    sets, units = GradientSets(session), Units(session)
    periodic = config.schedule.kind == "periodic"
    shards: list[Any] = [] if periodic else dataset.shards or []
    gradient_set_id, (prefilter, ranking) = new_id("gs"), kept
    asked = None if prefilter is None else config.conditions.prefilter
    ranked: dict[str, Any] = {}
    if asked is not None:
        ranked = {
            "prefilter": asked.model_dump(mode="json"),
            WHOLE: set_fingerprint(dataset, config, revision, pool),
        }

    def count(rows: int) -> int:
        return rows if asked is None else asked.count(rows)

    made = sets.add_unless_there(
        {
            "id": gradient_set_id,
            "project_id": dataset.project_id,
            "fingerprint": fingerprint,
            "dataset_id": dataset.id,
            "warmup_unit_id": warmup,
            "prefilter_unit_id": ranking,
            "config": {**set_config(config, revision), **ranked},
            "status": GradientSetStatus.COMPUTING,
            "num_shards": len(shards),
            "num_samples": count(dataset.num_usable or 0),
            "created_at": clock(),
        }
    )
    if not made:
        return
    prints = shard_fingerprints(
        shards, proxy_revision=revision, config=config.gradients, pool=pool, prefilter=prefilter
    )
    unit: dict[str, Any] = {"project_id": dataset.project_id, "kind": UnitKind.GRADIENTS, "dataset_id": dataset.id}
    rows: list[dict[str, Any]] = [
        {
            **unit,
            "id": new_id("unit"),
            "gradient_set_id": gradient_set_id,
            "shard": number,
            "fingerprint": name,
            "total": count(shard["rows"]),
            "schema_version": least_version(config),
        }
        for number, (shard, name) in enumerate(zip(shards, prints, strict=True))
    ]
    units.add_all(rows)
    # Rows that were measured for another data set of the project, at the same place, need not be again.
    made_before = units.made_shards(dataset.project_id, prints)
    for row in rows:
        if row["fingerprint"] in made_before:
            units.adopt(row["id"], made_before[row["fingerprint"]])
    if not units.unfinished_shards(gradient_set_id):
        sets.set_status(gradient_set_id, GradientSetStatus.READY)
