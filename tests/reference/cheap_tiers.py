"""The slow twins of the methods without gradients: BM25, weighted embeddings, target rows that pick in turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch


def okapi(texts: Sequence[Sequence[str]], query: Sequence[str], k1: float = 1.5, b: float = 0.75) -> list[float]:
    """BM25 of each text for a query, word by word.

    Args:
        texts: Words of each text.
        query: Words of the query.
        k1: How soon more of the same word stop counting.
        b: How much the length of a text counts against it.
    """
    mean = sum(len(text) for text in texts) / len(texts)
    scores = []
    for text in texts:
        score = 0.0
        for word in query:
            having = sum(word in other for other in texts)
            count = list(text).count(word)
            if count:
                idf = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
                score += idf * count / (count + k1 * (1 - b + b * len(text) / mean))
        scores.append(score)
    return scores


@torch.no_grad()
def embedding_of(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Mean of the last hidden states of one text, the i-th weighing i, of length one; float64 of shape (h,).

    Args:
        model: A causal language model in evaluation mode.
        ids: Its tokens.
    """
    states = model(input_ids=torch.tensor([list(ids)]), use_cache=False, output_hidden_states=True).hidden_states[-1][0]
    total = torch.zeros(states.shape[1], dtype=torch.float64)
    for place, state in enumerate(states):
        total += (place + 1) * state.double()
    return total / total.norm()


def in_turn(
    scores: Sequence[Sequence[Sequence[float]]],
    weights: Sequence[float],
    count: int,
    may: Callable[[int, Sequence[int]], bool],
) -> tuple[list[int], list[int]]:
    """Rows that the target rows pick in turn, and the task of each.

    Args:
        scores: For each task and each of its target rows the score of every row of the pool.
        weights: Weight of each task.
        count: Picks.
        may: Whether a row may be picked after these picks.
    """
    picks: list[int] = []
    tasks: list[int] = []
    while len(picks) < count:
        due = [weight / sum(weights) * (len(picks) + 1) - tasks.count(task) for task, weight in enumerate(weights)]
        task = max(range(len(due)), key=lambda number: (round(due[number], 9), -number))
        judge = scores[task][tasks.count(task) % len(scores[task])]
        open_rows = [row for row in range(len(judge)) if row not in picks and may(row, picks)]
        if not open_rows:
            break
        picks.append(max(open_rows, key=lambda row: (judge[row], -row)))
        tasks.append(task)
    return picks, tasks
