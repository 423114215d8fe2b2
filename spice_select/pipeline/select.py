"""An offline selection: from the gradients of a pool to the picks, wherever the gradients are kept.

Library and worker both call ``select_from_pool``; what differs between them is the storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from spice_select.config import Budget, RunConfig
from spice_select.pipeline.constraints import resolve
from spice_select.pipeline.evidence import explained
from spice_select.pipeline.pool import Pool, read_groups
from spice_select.pipeline.prefilter import PREFILTERED
from spice_select.pipeline.progress import PhaseReport
from spice_select.pipeline.screens import BenchmarkRows, Settled, decontamination, screened
from spice_select.pipeline.targets import (
    TargetSet,
    prepare,
    refuse_both,
    rows_in_targets,
    rows_of,
    target_scores,
    with_target_floors,
    without,
)
from spice_select.results.outcome import Choice
from spice_select.selection.result import StopRequest
from spice_select.selection.select import Part, random_curve, select
from spice_select.selection.target_mix import target_votes


class RowStorage(Protocol):
    """Where the rows of a data set are."""

    @property
    def rows_shards(self) -> Sequence[Path]:
        """The ``rows-*.parquet`` of the ingest, in order."""

    @property
    def source_shards(self) -> Sequence[Path]:
        """The ``source-*.parquet`` of the ingest, in order; none for a data set that has none."""


class SelectionStorage(RowStorage, Protocol):
    """Where an offline selection finds its inputs: files of this machine, or the artifacts of a service."""

    def pool(self) -> Pool:
        """The candidates and their gradients."""

    def base_rows(self) -> Sequence[int]:
        """Rows of the source in the base selection."""

    def targets(self) -> Sequence[TargetSet]:
        """What the model should get better at, with the gradients of its rows."""

    def protected(self) -> Sequence[TargetSet]:
        """What must not get worse, with the gradients of its rows."""

    def benchmarks(self) -> Sequence[BenchmarkRows]:
        """What nothing of may be trained on."""

    def parts(self, size: int) -> list[Part] | None:
        """What was selected from each part of a pool of this size; None where that is still to be done."""


def select_from_pool(
    config: RunConfig, storage: SelectionStorage, report: PhaseReport, should_stop: StopRequest
) -> Choice:
    """Select from a pool whose gradients are there.

    Args:
        config: Settings of the run.
        storage: Where everything is.
        report: Told about every step.
        should_stop: Whether to stop, and why; the picks so far are kept.
    """
    report.phase("loading_gradients")
    pool = storage.pool()
    config = _counted(config, pool)
    resolved = resolve(config.conditions, pool, storage.rows_shards, storage.base_rows())
    constraints = resolved.arguments()
    targets, protect = storage.targets(), storage.protected()
    refuse_both(targets, protect)
    parts = storage.parts(len(pool.positions))
    positions, tokens = pool.positions.tolist(), pool.tokens.tolist()
    benchmarks = storage.benchmarks()
    excluded = rows_in_targets(storage.rows_shards, positions, targets, protect) if targets or protect else []
    taken = {item["row"] for item in excluded}
    quotas = config.selection.quotas
    column = quotas.column if quotas is not None else None
    groups = read_groups(storage.rows_shards, column, positions) if column is not None else None
    settled = Settled(
        included=frozenset(positions[row] for row in constraints["must_include"]),
        gone=frozenset(taken | {positions[row] for row in constraints["exclude"]}),
        groups=groups,
    )
    screened_rows = screened(config, pool, storage.rows_shards, benchmarks, settled)
    excluded += [item for item in screened_rows if item["row"] not in taken]
    prepared = prepare(pool, targets, config.selection, constraints["given"], protect)
    candidates = prepared.candidates
    constraints |= {"given": prepared.given, "exclude": without(pool, constraints["exclude"], excluded)}
    votes, selecting = None, config.selection
    if prepared.targets:
        votes = target_votes(candidates, rows_of(prepared.targets), constraints["exclude"])
        if quotas is not None and quotas.from_targets and groups is not None:
            weights = [target.facts.weight for target in targets]
            selecting = with_target_floors(config.selection, votes, weights, groups, constraints["exclude"])
    report.phase("selecting", total=config.selection.budget.resolve_count(len(positions)), measure="picks")
    selection = select(
        candidates,
        selecting,
        parts=parts,
        costs=tokens,
        losses=pool.losses.tolist(),
        groups=groups,
        **constraints,
        targets=prepared.targets or None,
        target_weights=[target.facts.weight for target in targets] or None,
        protect=prepared.protected,
        target_scores=target_scores(config.selection, pool, storage.rows_shards, targets),
        on_progress=report.advance,
        should_stop=should_stop,
    )
    picked, seed = len(selection.indices), config.selection.seed
    return Choice(
        selection=selection,
        positions=positions,
        tokens=tokens,
        excluded=[*pool.excluded, *excluded],
        truncated=len(pool.truncated),
        truncated_positions=pool.truncated,
        notes=pool.notes,
        halvings=pool.halvings,
        random_curve=random_curve(candidates, config.selection, picked, seed, **constraints),
        targets=[target.facts for target in targets],
        protected=[one.facts for one in protect],
        votes=votes,
        floors=selecting.quotas.floors if selecting.quotas is not None and selecting is not config.selection else None,
        decontamination=decontamination(config, storage.rows_shards, benchmarks, excluded),
        evidence=explained(
            config,
            prepared,
            targets,
            selection,
            positions=positions,
            withheld=resolved.exclude,
            owned=resolved.owned,
            exclude=constraints["exclude"],
        ),
    )


def _counted(config: RunConfig, pool: Pool) -> RunConfig:
    """The settings with a budget that is a share of the pool as a number: rows without a gradient are of the pool."""
    left_out = sum(item["code"] == PREFILTERED for item in pool.excluded)
    count = config.selection.budget.resolve_count(len(pool.positions) + left_out)
    if not left_out or count is None:
        return config
    selection = config.selection.model_copy(update={"budget": Budget(count=count)})
    return config.model_copy(update={"selection": selection})
