"""The rows that each arm trains on."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import torch

import spice_select as ss
from benchmarks.quality.corpus import Draw, Row
from benchmarks.quality.features import Features, Measured, response_tokens
from spice_select.config import Screens
from spice_select.pipeline.screens import MAD_SCALE
from spice_select.presets import PRESETS
from spice_select.records.near_duplicates import near_duplicate_clusters
from spice_select.records.repeated_responses import repeated_responses
from spice_select.records.tokenize import Example
from spice_select.records.unrelated_responses import unrelated_responses
from spice_select.records.word_vectors import word_vectors
from spice_select.selection.baselines import length_matched_order

Rule = Literal["matching", "relevance"]
Whitened: TypeAlias = "tuple[torch.Tensor, list[torch.Tensor]]"
PER_SEED = ("random", "random_length", "random_source", "oracle", "junk")
"""Arms that draw anew for every training seed."""


Order: TypeAlias = "Callable[[Pool, int, int], Sequence[int]]"
"""Rows of a pool, best first: at least as many as are asked for, by a training seed."""


@dataclass
class Pool:
    """One pool draw, measured by the proxy.

    Attributes:
        draw: Its rows.
        features: Measures rows.
        budget: Share of the pool's response tokens.
    """

    draw: Draw
    features: Features
    budget: float

    @cached_property
    def examples(self) -> list[Example]:
        """The pool as the model sees it."""
        return self.features.examples([row.record for row in self.draw.pool])

    @cached_property
    def response_tokens(self) -> list[int]:
        """Learned tokens of each row."""
        return [response_tokens(example) for example in self.examples]

    @cached_property
    def budget_tokens(self) -> float:
        """Response tokens that an arm may take."""
        return self.budget * sum(self.response_tokens)

    @cached_property
    def measured(self) -> Measured:
        """Gradients and losses of the pool."""
        return self.features.measured(self.examples)

    @cached_property
    def targets(self) -> list[np.ndarray]:
        """Gradients of each task's target rows."""
        return [self.gradients(rows) for rows in self.draw.targets.values()]

    @cached_property
    def whitened(self) -> Whitened:
        """Pool and targets, whitened."""
        return self.whitened_for(self.targets)

    def whitened_for(self, targets: Sequence[np.ndarray]) -> Whitened:
        """Pool and target rows, whitened by the second moments of the pool.

        Args:
            targets: Target rows of each task.
        """
        return ss.whiten(self.measured.features, targets, block_sizes=self.features.block_sizes)

    def gradients(self, rows: Sequence[Row]) -> np.ndarray:
        """Gradients of rows beside the pool, of unit length, float32 of shape (m, d).

        Args:
            rows: The rows.
        """
        return self.features.measured(self.features.examples([row.record for row in rows])).features

    def within_budget(self, order: Sequence[int]) -> list[int]:
        """The beginning of an order whose response tokens are as close to the budget as its last row allows.

        Args:
            order: Rows, best first.
        """
        rows: list[int] = []
        total = 0
        for row in order:
            more = total + self.response_tokens[row]
            if rows and abs(more - self.budget_tokens) > abs(total - self.budget_tokens):
                break
            rows.append(int(row))
            total = more
        return rows

    def rows_of(self, arm: str, seed: int) -> list[int]:
        """The rows that an arm trains on, within the budget.

        Args:
            arm: Its name.
            seed: Training seed.
        """
        if arm == "full":
            return list(range(len(self.draw.pool)))
        count = min(len(self.examples), int(4 * self.budget * len(self.examples)) + 1)
        while True:
            rows = self.within_budget(ARMS[arm](self, count, seed))
            if len(rows) < count or count == len(self.examples):
                return rows
            count = min(len(self.examples), 2 * count)


def _targeted(rule: Rule, information: float, *, white: bool) -> Order:
    def order(pool: Pool, count: int, _seed: int) -> Sequence[int]:
        rows, targets = pool.whitened if white else (torch.from_numpy(pool.measured.features), pool.targets)
        return _select_for(rows, targets, count, rule, information)

    return order


def _recommended(*, span: bool) -> Order:
    """Rule A on what the screens of the preset leave, whitened by the whole pool, as a job with targets does."""

    def order(pool: Pool, count: int, _seed: int) -> Sequence[int]:
        return _select_for(*pool.whitened, count, "matching", 1.0, among=_left_by_screens(pool), span=span)

    return order


def _left_by_screens(pool: Pool) -> torch.Tensor:
    """Which rows the screens of the preset `recommended` leave, bool of shape (n,)."""
    screens = Screens.model_validate(PRESETS["recommended"]["screens"])
    asked, answered = ([getattr(row, part) for row in pool.draw.pool] for part in ("prompt", "response"))
    left = torch.from_numpy(_ordinary(pool.measured.losses, screens.loss_outliers or math.inf))
    for place, *_ in repeated_responses(asked, answered, screens.repeated_responses or len(asked)):
        left[place] = False
    for found in unrelated_responses(asked, answered, screens.unrelated_responses or 1.0):
        left[found.place] = False
    whole = [f"{prompt}\n{response}" for prompt, response in zip(asked, answered, strict=True)]
    for place, first in enumerate(near_duplicate_clusters(whole, similarity=screens.near_duplicates or 1.0)):
        left[place] &= place == first
    return left


def _ordinary(losses: np.ndarray, spreads: float) -> np.ndarray:
    """Which losses are at most so many scaled median absolute deviations above the median."""
    middle = np.median(losses)
    ordinary: np.ndarray = losses <= middle + spreads * MAD_SCALE * np.median(np.abs(losses - middle))
    return ordinary


def _select_for(
    rows: torch.Tensor,
    targets: Sequence[torch.Tensor | np.ndarray],
    count: int,
    rule: Rule,
    information: float,
    *,
    among: torch.Tensor | None = None,
    span: bool = False,
) -> list[int]:
    alive = torch.nonzero(rows.any(dim=1) if among is None else rows.any(dim=1) & among).flatten()
    config = ss.SelectionConfig(
        budget=ss.Budget(count=min(count, len(alive))), target_rule=rule, information_weight=information, span=span
    )
    return [int(alive[place]) for place in ss.select(rows[alive], config, targets=list(targets)).indices]


def _untargeted(*, raw: bool) -> Order:
    def order(pool: Pool, count: int, _seed: int) -> Sequence[int]:
        gradients = torch.from_numpy(pool.measured.features)
        if raw:
            gradients = gradients * torch.from_numpy(pool.measured.norms).float()[:, None]
        alive = torch.nonzero(gradients.any(dim=1)).flatten()
        config = ss.SelectionConfig(budget=ss.Budget(count=min(count, len(alive))), conflict_penalty=0.1)
        return [int(alive[place]) for place in ss.select(gradients[alive], config).indices]

    return order


def _screened(pool: Pool, count: int, _seed: int) -> Sequence[int]:
    """No target: without rows of outlying loss, information gain x 3 and matching of the pool's mean x 1."""
    return _without_target(pool, count, torch.from_numpy(_ordinary(pool.measured.losses, 3.0)))


def _recommended_untargeted(pool: Pool, count: int, _seed: int) -> Sequence[int]:
    """The same on what all screens of the preset leave, as a job without a target does."""
    return _without_target(pool, count, _left_by_screens(pool))


def _without_target(pool: Pool, count: int, left: torch.Tensor) -> list[int]:
    gradients = torch.from_numpy(pool.measured.features)
    kept = torch.nonzero(left & gradients.any(dim=1)).flatten()
    config = ss.SelectionConfig(
        budget=ss.Budget(count=min(count, len(kept))), information_weight=3.0, matching_weight=1.0
    )
    return [int(kept[place]) for place in ss.select(gradients[kept], config).indices]


def _random(pool: Pool, _count: int, seed: int) -> Sequence[int]:
    return _shuffled(range(len(pool.examples)), f"random {seed}")


def _random_length(pool: Pool, _count: int, seed: int) -> Sequence[int]:
    lengths = torch.tensor(pool.response_tokens, dtype=torch.float64)
    matched = length_matched_order(lengths, pool.rows_of("targeted_a", 0), seed + 10_007)
    return [*matched.tolist(), *set(range(len(lengths))).difference(matched.tolist())]


def _random_source(pool: Pool, _count: int, seed: int) -> Sequence[int]:
    """Random rows with the domains and sources of targeted_a, in turn as they come there."""
    labels = [f"{row.task} {row.source}" for row in pool.draw.pool]
    waiting: dict[str, list[int]] = {}
    for row in _shuffled(range(len(labels)), f"source {seed}"):
        waiting.setdefault(labels[row], []).append(row)
    picks = pool.rows_of("targeted_a", 0)
    wanted = Counter(labels[row] for row in picks)
    rows: list[int] = []
    while any(waiting[label] for label in wanted):
        for label in _shuffled([labels[row] for row in picks], f"order {seed} {len(rows)}"):
            if waiting[label]:
                rows.append(waiting[label].pop())
    return rows


def _oracle(pool: Pool, _count: int, seed: int) -> Sequence[int]:
    """Random clean rows of the targets' tasks, the tasks in turn."""
    clean = {
        task: _shuffled(
            [place for place, row in enumerate(pool.draw.pool) if row.kind == "clean" and row.task == task],
            f"oracle {seed} {task}",
        )
        for task in pool.draw.targets
    }
    return _in_turn(list(clean.values()))


def _junk(pool: Pool, _count: int, seed: int) -> Sequence[int]:
    junk = [place for place, row in enumerate(pool.draw.pool) if row.kind not in ("clean", "duplicate")]
    return _shuffled(junk, f"junk {seed}")


def _less(pool: Pool, _count: int, _seed: int) -> Sequence[int]:
    means = np.concatenate(pool.targets).mean(axis=0)
    return np.argsort(-(pool.measured.features @ means), kind="stable").tolist()


def _less_turns(pool: Pool, _count: int, _seed: int) -> Sequence[int]:
    return _in_turn(
        [np.argsort(-(pool.measured.features @ rows.mean(axis=0)), kind="stable").tolist() for rows in pool.targets]
    )


def _embedding(pool: Pool, count: int, _seed: int) -> Sequence[int]:
    targets = [
        pool.features.embedded(pool.features.examples([row.record for row in rows]))
        for rows in pool.draw.targets.values()
    ]
    config = ss.SelectionConfig(budget=ss.Budget(count=count), method="embedding")
    return ss.select(pool.features.embedded(pool.examples), config, targets=targets).indices


def _bm25(pool: Pool, count: int, _seed: int) -> Sequence[int]:
    texts = _texts(pool.draw.pool)
    targets = [_texts(rows) for rows in pool.draw.targets.values()]
    config = ss.SelectionConfig(budget=ss.Budget(count=count), method="bm25")
    scores = [ss.bm25_scores(texts, rows) for rows in targets]
    words = [word_vectors(rows) for rows in targets]
    return ss.select(word_vectors(texts), config, targets=words, target_scores=scores).indices


def _texts(rows: Sequence[Row]) -> list[str]:
    return [" ".join(row.record.values()) for row in rows]


def _longest(pool: Pool, _count: int, _seed: int) -> Sequence[int]:
    return np.argsort(-np.array(pool.response_tokens), kind="stable").tolist()


def _wrong_target(pool: Pool, count: int, _seed: int) -> Sequence[int]:
    """Rule A for the tasks that the pool is not selected for."""
    others = [pool.gradients(rows) for rows in pool.draw.others.values()]
    return _select_for(*pool.whitened_for(others), count, "matching", 1.0)


def _in_turn(orders: Sequence[Sequence[int]]) -> list[int]:
    """Each order's best row that is not taken yet, one order after the other."""
    taken: set[int] = set()
    places = [0] * len(orders)
    rows: list[int] = []
    while True:
        before = len(rows)
        for turn, order in enumerate(orders):
            while places[turn] < len(order) and order[places[turn]] in taken:
                places[turn] += 1
            if places[turn] < len(order):
                rows.append(int(order[places[turn]]))
                taken.add(rows[-1])
        if len(rows) == before:
            return rows


def _shuffled(items: Sequence, seed: str) -> list:
    return random.Random(seed).sample(list(items), len(items))


ARMS: dict[str, Order] = {
    "random": _random,
    "random_length": _random_length,
    "random_source": _random_source,
    "targeted_a": _targeted("matching", 1.0, white=True),
    "targeted_a_plain": _targeted("matching", 1.0, white=False),
    "targeted_a_eta0": _targeted("matching", 0.0, white=True),
    "targeted_b": _targeted("relevance", 0.3, white=True),
    "targeted_b_plain": _targeted("relevance", 0.3, white=False),
    "spice_0_1_0": _untargeted(raw=False),
    "paper": _untargeted(raw=True),
    "less": _less,
    "less_turns": _less_turns,
    "embedding": _embedding,
    "bm25": _bm25,
    "longest": _longest,
    "untargeted": _screened,
    "recommended": _recommended(span=False),
    "recommended_span": _recommended(span=True),
    "recommended_untargeted": _recommended_untargeted,
    "oracle": _oracle,
    "junk": _junk,
    "wrong_target": _wrong_target,
}
"""Order of every arm that is selected; ``untuned`` and ``full`` beside them are not."""
