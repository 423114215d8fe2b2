"""Evidence for each row of the pool, once, at the end of an offline selection."""

from __future__ import annotations

from collections.abc import Sequence

from spice_select.config import RunConfig, SelectionConfig
from spice_select.pipeline.targets import Prepared, TargetSet
from spice_select.results.evidence_file import Evidence
from spice_select.selection.methods import GREEDY
from spice_select.selection.result import Selection
from spice_select.selection.row_evidence import PoolEvidence, row_evidence

EXCLUDED, OWNED = "exclude", "given"
"""Codes of candidates that the job itself kept out: by its ``exclude``, and as rows of the base selection."""


def explained(
    config: RunConfig,
    prepared: Prepared,
    targets: Sequence[TargetSet],
    selection: Selection,
    *,
    positions: Sequence[int],
    withheld: Sequence[int],
    owned: Sequence[int],
    exclude: Sequence[int],
) -> Evidence | None:
    """Why each row was selected, or not.

    Args:
        config: Settings of the run.
        prepared: What the selection compared.
        targets: The targets.
        selection: The selection.
        positions: Position of each candidate among the usable rows.
        withheld: Candidates that the job itself kept out.
        owned: Those of them that are owned already.
        exclude: Candidates that could not be selected, for whatever reason.

    Returns:
        None for the scope ``partitioned``, where only the rows that the parts selected are compared with each other.
    """
    if config.selection.scope.kind == "partitioned":
        return None
    is_owned = set(owned)
    pool = row_evidence(
        prepared.candidates,
        config.selection,
        selection,
        targets=prepared.targets,
        given=prepared.given,
        exclude=exclude,
    )
    return Evidence(
        pool=pool,
        scores=_next_scores(config.selection, prepared, pool),
        target_rows=[(target.facts.name, row) for target in targets for row in target.source_rows],
        withheld=[
            {
                "row": positions[row],
                "code": OWNED if row in is_owned else EXCLUDED,
                "detail": "it is owned already, by the base selection of the job"
                if row in is_owned
                else "the job names it among the rows to exclude",
            }
            for row in withheld
        ],
        target_rule=config.selection.target_rule if targets else None,
        must_include=len(config.conditions.must_include),
        quotas=config.selection.quotas is not None,
    )


def _next_scores(config: SelectionConfig, prepared: Prepared, pool: PoolEvidence) -> list[float] | None:
    """What the rule would compare every candidate by after the last pick; None where it has more terms than these."""
    more = prepared.targets or prepared.protected or config.matching_weight or config.budget.tokens is not None
    if more or pool.gains is None or config.method not in GREEDY:
        return None
    penalty = config.conflict_penalty if config.method == "spice" else 0.0
    scores = config.information_weight * pool.gains - penalty * pool.conflicts
    return [float(score) for score in scores]
