"""What a selection is: the chosen rows in pick order, with the evidence for each choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

StopReason: TypeAlias = Literal["budget_reached", "stop_ratio", "min_gain", "pool_exhausted", "cancelled", "deadline"]
STOPPED: frozenset[StopReason] = frozenset({"cancelled", "deadline"})
"""Reasons from outside: the picks so far are returned as partial."""
StopRequest: TypeAlias = Callable[[], bool | Literal["cancelled", "deadline"]]
"""Asked whether to stop; True is short for ``cancelled``."""


@dataclass(frozen=True)
class Certificate:
    """A proof of how good a set is, valid for any set whatever chose it, and what else can be said of it.

    Attributes:
        utility: U(S), nats.
        upper_bound: No set within the same budget has a larger U, nats. The budget is the number of samples chosen; for
            a token budget the tokens allowed, or the tokens used when the choice was stopped early.
        ratio: utility / upper_bound, in (0, 1]; 1.0 when both are zero.
        bound: Which proof gave the upper bound: ``marginal`` (U(S) + the best that marginal gains over S allow),
            ``base`` (the best that gains over the empty set allow), ``trace`` (concavity of logdet:
            r log(1 + alpha T / r) with r = min(k, d) and T the k largest squared norms), or ``windows`` (the sum of
            such bounds, one for each window at the model it was chosen with).
        curvature: Total curvature c = 1 - min_x Delta_x(D without x) / Delta_x(empty), in [0, 1].
        curvature_exact: False when the exact value was out of reach and 1, which always holds, stands in its place.
        greedy_bound: (1 - e^-c) / c: what plain greedy (lambda = 0) is guaranteed to reach of the best utility.
        spearman_conflict_gain: Rank correlation of the picks' conflicts and gains; None when either is constant.
        spearman_conflict_epsilon: Rank correlation of the picks' conflicts and |epsilon|; None likewise.
        epsilon_constant: Smallest C for which |epsilon_x| <= C alpha^2 sum (g_x . g_y)^2 / (1 + alpha |g_x|^2), the sum
            over the earlier picks y, holds for every pick; None without a second pick, or for a set too large.
        mean_cosine: Mean cosine between two different samples of the set; None for fewer than two non-zero ones.
        max_cosine: Largest cosine between two different samples of the set; None likewise, or for a set too large.
        max_conflict: Largest conflict among the picks.
    """

    utility: float
    upper_bound: float
    ratio: float
    bound: Literal["marginal", "base", "trace", "windows"]
    curvature: float
    curvature_exact: bool
    greedy_bound: float
    spearman_conflict_gain: float | None
    spearman_conflict_epsilon: float | None
    epsilon_constant: float | None
    mean_cosine: float | None
    max_cosine: float | None
    max_conflict: float


@dataclass(frozen=True)
class ScopeReport:
    """What choosing from a pool cut into parts gave up, measured on a random sample of the pool.

    Attributes:
        kind: ``windows`` or ``partitioned``.
        sample: Samples in the sample.
        sample_count: Samples chosen from it.
        utility: U of what the same scope chooses from the sample, nats.
        exact_utility: U of what the exact greedy chooses from it, nats.
        loss: 1 - utility / exact_utility; negative when the cut greedy was the better one.
    """

    kind: str
    sample: int
    sample_count: int
    utility: float
    exact_utility: float
    loss: float


@dataclass(frozen=True)
class Spread:
    """Cosines between the gradients of some rows and the mean gradient of a protected set.

    Attributes:
        rows: Number of rows.
        against: Those of them that point against the set: their cosine is below 0.
        mean_cosine: Mean cosine, in [-1, 1]; None without rows.
        worst_cosine: Lowest cosine; None without rows.
    """

    rows: int
    against: int
    mean_cosine: float | None
    worst_cosine: float | None


@dataclass(frozen=True)
class Opposition:
    """What a selection does to a protected set, beside the pool it was made from.

    Attributes:
        selected: Cosines of the selected rows.
        pool: Cosines of all rows that could be selected.
    """

    selected: Spread
    pool: Spread


@dataclass(frozen=True)
class Selection:
    """Result of ``select``. Every list is in pick order and of the same length.

    Attributes:
        indices: Chosen rows, 0-based positions in the pool.
        gains: Marginal gain Delta_x(S) of each pick over the picks before it, nats, in the configured information.
        base_gains: log(1 + alpha |g_x|^2), nats: the exact gain the pick would have had alone.
        epsilons: gain - base gain, nats; never positive under ``logdet``.
        conflicts: Conflict of each pick with the mean of the picks before it, in [0, 1].
        scores: What the method ranked by: gain - lambda conflict (nats, or nats per token) for ``spice``, ``fisher``
            and the random methods, its own number for the others.
        stop_reason: Why it ended.
        utility: U(S) = logdet(I + alpha F_S), nats, of the chosen set, exact in every form of information; what S adds
            to them, U(S and given) - U(given), when samples were given.
        certificate: How far from the best set of the same size this one can be at most; None when not asked for.
        partial: True when it was stopped from outside; the picks so far are what a smaller budget would have given.
        method: The method that chose.
        refreshed: Number of times a candidate's gain was brought up to date after a pick; n k is the dense cost.
        rule: How candidates were compared: ``score``, or ``score_per_token`` when that won a token budget.
        cost: Total cost (tokens) of the chosen rows; None without costs.
        scope: What cutting the pool gave up; None for the scope ``global``.
        tasks: Number of the target that each pick serves; None without targets.
        relevances: g . m / |m| of each pick with the mean m of that target's rows; for ``bm25`` and ``embedding`` its
            score for the target row that picked it; None without targets.
        margins: By how much the score of each pick exceeds that of any other candidate, at least; negative where scores
            tied and the lower row was picked. None for methods that compare no scores.
        resolutions: Below which margin changes of the rows within their precision may change each pick; None likewise.
        objective: With targets under ``relevance``: the sum of what the picks are worth for their targets and of the
            weighted utility; None otherwise.
        objective_bound: No other set with as many rows for each target has a larger objective.
        charges: What each pick paid for pointing against protected sets; None without any.
        opposition: What the selection does to each protected set; None without any.
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
    scope: ScopeReport | None = None
    tasks: list[int] | None = None
    relevances: list[float] | None = None
    margins: list[float] | None = None
    resolutions: list[float] | None = None
    objective: float | None = None
    objective_bound: float | None = None
    charges: list[float] | None = None
    opposition: list[Opposition] | None = None

    @property
    def undecided(self) -> int | None:
        """Picks whose margin is below what the precision of the rows can tell apart; None without margins."""
        if self.margins is None or self.resolutions is None:
            return None
        return sum(margin < least for margin, least in zip(self.margins, self.resolutions, strict=True))
