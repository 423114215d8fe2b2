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
