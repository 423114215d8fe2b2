"""What a selection is: the chosen rows in pick order, with the evidence for each choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from spice_select.diagnostics import Certificate

StopReason: TypeAlias = Literal["budget_reached", "stop_ratio", "pool_exhausted", "cancelled"]


@dataclass(frozen=True)
class Selection:
    """Result of ``select``. Every list is in pick order and of the same length.

    Attributes:
        indices: Chosen rows, 0-based positions in the pool.
        gains: Marginal gain Delta_x(S) of each pick over the picks before it, nats, in the configured information.
        base_gains: log(1 + alpha |g_x|^2), nats: the exact gain the pick would have had alone.
        epsilons: gain - base gain, nats; never positive under ``logdet``.
        conflicts: Conflict of each pick with the mean of the picks before it, in [0, 1].
        scores: What the rule compared, nats; divided by the sample's tokens where the budget is in tokens and the
            rule was gain per token.
        stop_reason: Why it ended.
        utility: U(S) = logdet(I + alpha F_S), nats, of the chosen set, exact in every form of information.
        certificate: How far from the best set of the same size this one can be at most; None when not asked for.
        partial: True when it was stopped from outside; the picks so far are what a smaller budget would have given.
        method: The method that chose.
        refreshed: Number of times a candidate's gain was brought up to date after a pick; n k is the dense cost.
        rule: How candidates were compared: ``score``, or ``score_per_token`` when that won a token budget.
        cost: Total cost (tokens) of the chosen rows; None without costs.
    """

    indices: list[int]
    gains: list[float]
    base_gains: list[float]
    epsilons: list[float]
    conflicts: list[float]
    scores: list[float]
    stop_reason: StopReason
    utility: float
    certificate: Certificate | None
    partial: bool
    method: str
    refreshed: int
    rule: Literal["score", "score_per_token"] = "score"
    cost: int | None = None
