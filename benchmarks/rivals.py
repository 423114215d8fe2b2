"""Other ways to choose, for the benchmark of the selection: each as its authors run it, each checked in the tests."""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import torch

ETA = 1e-8
SUBMODLIB = Path(__file__).parent / "_submodlib.py"


def authors_greedy(gradients: torch.Tensor, count: int, *, alpha: float = 1.0, penalty: float = 0.1) -> list[int]:
    """The penalised greedy of the paper's code in its diagonal form, with its costs.

    Each candidate alone, each number taken out of torch, the mean of the chosen formed anew for every candidate.

    Args:
        gradients: The pool, float32 of shape (n, d).
        count: Rows to choose.
        alpha: Fisher scale.
        penalty: Weight of the conflict.
    """
    rows, left = list(gradients), list(range(len(gradients)))
    chosen: list[int] = []
    denominator = torch.ones_like(rows[0])
    for _ in range(count):
        best, best_score = -1, -math.inf
        for row in left:
            gradient = rows[row]
            score = math.log(1.0 + alpha * (gradient.square() / denominator).sum().item())
            if chosen:
                mean = torch.stack([rows[other] for other in chosen]).mean(dim=0)
                cosine = torch.dot(gradient, mean).item() / (gradient.norm().item() * mean.norm().item() + ETA)
                score -= penalty * max(0.0, -cosine)
            if score > best_score:
                best, best_score = row, score
        chosen.append(best)
        left.remove(best)
        denominator = denominator + alpha * (rows[best].abs() * rows[best]).square()
    return chosen


def authors_windows(gradients: torch.Tensor, count: int, *, window: int = 128) -> list[int]:
    """The same over one window of rows after the other, each giving its share of the count."""
    chosen: list[int] = []
    for start in range(0, len(gradients), window):
        part = gradients[start : start + window]
        share = (start + len(part)) * count // len(gradients) - len(chosen)
        chosen += [start + row for row in authors_greedy(part, share)]
    return chosen


TIE = 1e-6
"""Scores closer than this, relative to their terms, tie."""


def dense_greedy(gradients: torch.Tensor, count: int, *, alpha: float = 1.0, penalty: float = 0.1) -> list[int]:
    """The exact greedy that goes once through all gradients for every pick, in float64.

    Args:
        gradients: The pool, shape (n, d).
        count: Rows to choose.
        alpha: Fisher scale.
        penalty: Weight of the conflict.
    """
    pool = gradients.double()
    norms = pool.square().sum(dim=1)
    forms, products = norms.clone(), torch.zeros_like(norms)
    total = torch.zeros(pool.shape[1], dtype=torch.float64, device=pool.device)
    directions = torch.empty(count, pool.shape[1], dtype=torch.float64, device=pool.device)
    chosen: list[int] = []
    for step in range(count):
        size = max(1, step)
        cosines = products / size / (norms.sqrt() * (total.norm() / size) + ETA)
        scores = torch.log1p(alpha * forms) - penalty * (-cosines).clamp(min=0.0)
        scores[chosen] = -math.inf
        # The lowest of the rows that the precision of float32 cannot tell from the best, as ours does.
        best = scores.max()
        row = int((scores >= best - TIE * (1.0 + best.abs())).nonzero()[0])
        chosen.append(row)
        gradient, earlier = pool[row], directions[:step]
        direction = gradient - (earlier @ gradient) @ earlier
        directions[step] = direction * math.sqrt(alpha / (1.0 + alpha * float(forms[row])))
        total += gradient
        both = pool @ torch.stack([directions[step], total], dim=1)
        forms = (forms - both[:, 0].square()).clamp_(min=0.0)
        products = both[:, 1].contiguous()
    return chosen


def submodlib_greedy(
    python: Path, pool: Path, rows: int, count: int, *, threads: int, memory_gib: float | None = None
) -> dict[str, Any]:
    """The lazy greedy of submodlib for LogDeterminant, in an interpreter of its own.

    Args:
        python: An interpreter that has submodlib.
        pool: The pool, a file of numpy.
        rows: Its first rows to choose from.
        count: Rows to choose.
        threads: Of the kernel's product.
        memory_gib: What the process may map at most.

    Returns:
        ``indices`` (None when ``out_of_memory``), ``seconds`` and ``processor_seconds`` (kernel, building and
        maximising), ``peak_gib`` and ``versions``.
    """
    command = [str(python), str(SUBMODLIB), str(pool), str(rows), str(count)]
    if memory_gib is not None:
        command.append(str(memory_gib))
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads)}
    lines = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    answer: dict[str, Any] = json.loads(lines.rpartition("\n#")[2])
    return answer
