"""The units that a selection becomes: one, or one for each part of a pool and one for the second round."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.errors import ServiceError
from app.status import UnitKind
from spice_select.config import PartitionedScope, RunConfig, SelectionConfig

MAX_PARTS = 1024
"""Most parts of a job: each is a unit, and a part should be large enough to be worth a worker's while."""
PARTS_VERSION = 2
"""A worker must know this version of units to take a part, or a selection that has to wait for parts."""
TUNED_VERSION = 4
"""A worker must know this version of units to take any work on a proxy model that is tuned."""


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
    # ``less`` compares each row with the target set alone: a ranking, for which one pass over the pool is all there is.
    if not isinstance(selection.scope, PartitionedScope) or selection.method == "less":
        yield {"kind": UnitKind.SELECT, "shard": None, "schema_version": version, "total": 0}
        return
    parts = min(selection.scope.parts, usable)
    wanted = selection.budget.resolve_count(usable) or 0
    newer = {"schema_version": max(version, PARTS_VERSION)}
    for number in range(parts):
        picks = min(wanted, selection.max_count or wanted, usable // parts + (number < usable % parts))
        yield {"kind": UnitKind.SELECT_PART, "shard": number, "total": picks, **newer}
    yield {"kind": UnitKind.SELECT, "shard": None, "total": 0, **newer}
