"""One selected row with its evidence: of ``ranking.parquet``, of the table, of the API and of the client."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class SelectedSample(BaseModel):
    """One selected row and the evidence for it.

    Attributes:
        rank: Place in the order of selection, from 1.
        source_row: 0-based row of the source.
        row_sha256: Digest (hex) of the row's line in ``selected.jsonl``.
        gain: Marginal gain over the rows selected before it, nats.
        base_gain: Gain it would have had alone, nats.
        epsilon: gain - base_gain, nats.
        conflict: Conflict with the mean of the rows selected before it, in [0, 1].
        score: What the rule compared, nats (nats per token where the rule was gain per token).
        tokens: Tokens of prompt and response.
        target: Name of the target that the row was selected for; None without targets.
        relevance: g . m / |m| with the mean m of that target's rows; for ``bm25`` and ``embedding`` the score for the
            target row that picked it; None without targets.
        nearest_target: Target of the target row that is nearest to it; None without targets, and where rows were not
            compared in one pool, as are all below.
        nearest_target_row: That row in what the target was made from, from 0.
        nearest_target_cosine: Cosine with it.
        nearest_pick: Source row of the nearest row among those selected before it.
        nearest_pick_cosine: Cosine with it: how much the row repeats it.
    """

    model_config = ConfigDict(frozen=True, from_attributes=True)

    rank: int
    source_row: int
    row_sha256: str
    gain: float
    base_gain: float
    epsilon: float
    conflict: float
    score: float
    tokens: int
    target: str | None = None
    relevance: float | None = None
    nearest_target: str | None = None
    nearest_target_row: int | None = None
    nearest_target_cosine: float | None = None
    nearest_pick: int | None = None
    nearest_pick_cosine: float | None = None
