"""How far an arm is ahead of random rows: one number for each pool draw, Student's t over the draws, Holm, power."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import nct, t

CONFIDENCE = 0.95
REFERENCE = "random_length"
"""The arm that all others are compared with."""


@dataclass(frozen=True)
class Advantage:
    """Loss of the reference minus that of an arm, nats a token, over pool draws.

    Attributes:
        mean: Mean over draws.
        draws: Pool draws.
        low: Lower end of the 95 % interval; NaN for one draw.
        high: Upper end.
        p: Two-sided p-value; NaN for one draw.
        deviation: Standard deviation over draws; NaN for one draw.
    """

    mean: float
    draws: int
    low: float
    high: float
    p: float
    deviation: float


def advantage(differences: Sequence[float]) -> Advantage:
    """The advantage that paired differences show.

    Args:
        differences: One for each pool draw, mean over its training seeds.
    """
    values = np.asarray(differences, dtype=np.float64)
    mean, n = float(values.mean()), len(values)
    if n < 2:
        return Advantage(mean, n, math.nan, math.nan, math.nan, math.nan)
    deviation = float(values.std(ddof=1))
    error = deviation / math.sqrt(n)
    half = float(t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * error
    p = float(2 * t.sf(abs(mean) / error, n - 1)) if error > 0 else 0.0
    return Advantage(mean, n, mean - half, mean + half, p, deviation)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values corrected for testing all of them (Holm); lines without one stay without.

    Args:
        p_values: By line.
    """
    known = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    corrected = dict.fromkeys(p_values, math.nan)
    largest = 0.0
    for place, (p, name) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - place)))
        corrected[name] = largest
    return corrected


def detectable(deviation: float, draws: int, power: float = 0.8) -> float:
    """The difference that so many draws tell from zero with a probability of ``power``, nats a token.

    Args:
        deviation: Standard deviation over draws.
        draws: Pool draws, two at least.
        power: Probability.
    """
    edge = float(t.ppf(0.5 + CONFIDENCE / 2, draws - 1))
    low, high = 0.0, 50.0  # in standard errors
    for _ in range(60):
        middle = (low + high) / 2
        reached = float(nct.sf(edge, draws - 1, middle))
        low, high = (low, middle) if reached > power else (middle, high)
    return high * deviation / math.sqrt(draws)
