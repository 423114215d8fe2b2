"""Evidence for each row by its definition: numpy in float64, one row and one comparison at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """g . h / (|g| |h|); 0 where either is zero."""
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths > 0 else 0.0


def row_evidence(
    pool: np.ndarray,
    picks: Sequence[int],
    targets: Sequence[np.ndarray] = (),
    *,
    alpha: float = 1.0,
    tasks: Sequence[int] | None = None,
    given: np.ndarray | None = None,
    exclude: Sequence[int] = (),
) -> list[dict[str, Any]]:
    """What is known about each row of a pool after a selection.

    Args:
        pool: float64 of shape (n, d).
        picks: Rows in pick order.
        targets: Rows of each target, float64 of shape (m, d).
        alpha: Fisher scale.
        tasks: Target of each pick.
        given: Rows already owned, float64 of shape (m, d).
        exclude: Rows that could not be selected.
    """
    owned = np.zeros((0, pool.shape[1])) if given is None else given
    members = np.concatenate([owned, pool[list(picks)]])
    fisher = np.eye(pool.shape[1]) + alpha * sum(
        (np.outer(row, row) for row in members), np.zeros((pool.shape[1],) * 2)
    )
    means = [rows.mean(axis=0) for rows in targets]
    mean_of_set = members.mean(axis=0) if len(members) else np.zeros(pool.shape[1])
    relevance = [[float(row @ mean) / float(np.linalg.norm(mean)) for mean in means] for row in pool]
    available = [row for row in range(len(pool)) if row not in set(exclude)]
    found = []
    for number, row in enumerate(pool):
        rank = picks.index(number) if number in picks else len(picks)
        item: dict[str, Any] = {"task": -1, "relevance": None, "relevance_rank": 0, "targets": []}
        against = mean_of_set
        if targets:
            task = int(np.argmax(relevance[number]))
            if rank < len(picks) and tasks is not None:
                task = tasks[rank]
            value = relevance[number][task]
            item |= {"task": task, "relevance": value}
            if number in available:
                item["relevance_rank"] = 1 + sum(relevance[other][task] > value for other in available)
            near = [cosine(row, other) for other in np.concatenate(targets)]
            best = sorted(range(len(near)), key=lambda place: (-round(near[place], 11), place))[:3]
            item["targets"] = [(place, near[place]) for place in best]
            against = means[task]
        item["conflict"] = max(0.0, -cosine(row, against))
        item["gain"] = float(np.log1p(alpha * row @ np.linalg.inv(fisher) @ row))
        earlier = [(cosine(row, pool[pick]), place) for place, pick in enumerate(picks[:rank])]
        top = max((value for value, _ in earlier), default=0.0)
        item["nearest_pick"] = next((place for value, place in earlier if value >= top - 1e-11), -1)
        item["pick_cosine"] = top
        found.append(item)
    return found
