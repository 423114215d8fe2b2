"""The slow, obvious twins of the evaluation: every pair, every loop, float64.

Nothing here imports from the package under test.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import torch


def every_pair_clusters(texts: Sequence[str], similarity: float) -> list[int]:
    """Connected components of the graph whose edges are pairs of Jaccard index ``similarity`` or more."""
    sets = []
    for text in texts:
        words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
        sets.append({tuple(words[start : start + 3]) for start in range(max(1, len(words) - 2))} if words else set())
    clusters = list(range(len(texts)))
    changed = True
    while changed:
        changed = False
        for one in range(len(texts)):
            for other in range(one):
                union = sets[one] | sets[other]
                alike = bool(union) and len(sets[one] & sets[other]) / len(union) >= similarity
                if alike and clusters[one] != clusters[other]:
                    clusters[one] = clusters[other] = min(clusters[one], clusters[other])
                    changed = True
    return clusters


def plain_losses(model: Any, examples: Sequence[Any]) -> list[float]:
    """Mean loss of the learned tokens of each example, one forward pass each."""
    found = []
    for example in examples:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([example.input_ids]), use_cache=False).logits[0]
        terms = []
        for position in range(1, len(example.labels)):
            label = example.labels[position]
            if label != -100:
                terms.append(float(torch.logsumexp(logits[position - 1], 0) - logits[position - 1, label]))
        found.append(sum(terms) / len(terms))
    return found


def plain_training(
    model: Any, examples: Sequence[Any], steps: Sequence[Sequence[int]], *, rate: float, decay: float, clip: float
) -> None:
    """AdamW as its paper writes it, one row at a time, with the learning rate up over a tenth and down to zero."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    first = [torch.zeros_like(weight) for weight in weights]
    second = [torch.zeros_like(weight) for weight in weights]
    rising = max(1, round(0.1 * len(steps)))
    for number, rows in enumerate(steps, start=1):
        total, count = 0.0, 0
        model.zero_grad()
        for row in rows:
            example = examples[row]
            logits = model(input_ids=torch.tensor([example.input_ids]), use_cache=False).logits[0]
            for position in range(1, len(example.labels)):
                label = example.labels[position]
                if label != -100:
                    total = total + torch.logsumexp(logits[position - 1], 0) - logits[position - 1, label]
                    count += 1
        gradients = torch.autograd.grad(total / count, weights)
        length = sum(float((gradient**2).sum()) for gradient in gradients) ** 0.5
        now = rate * (number / rising if number <= rising else (len(steps) - number + 1) / (len(steps) - rising))
        for weight, gradient, one, two in zip(weights, gradients, first, second, strict=True):
            gradient = gradient * min(1.0, clip / (length + 1e-6))
            one.mul_(0.9).add_(0.1 * gradient)
            two.mul_(0.999).add_(0.001 * gradient**2)
            step = (one / (1 - 0.9**number)) / ((two / (1 - 0.999**number)).sqrt() + 1e-8)
            weight.data = weight.data * (1 - now * decay) - now * step


def bootstrap_of_seeds_and_rows(table: Any, draws: int, seed: int) -> tuple[float, float]:
    """The hierarchical bootstrap: seeds and held-out rows drawn again, 2.5 and 97.5 % points of the mean."""
    draw = torch.Generator().manual_seed(seed)
    lines, columns = table.shape
    means = []
    for _ in range(draws):
        some_lines = torch.randint(lines, (lines,), generator=draw)
        some_columns = torch.randint(columns, (columns,), generator=draw)
        means.append(float(table[some_lines][:, some_columns].mean()))
    means.sort()
    return means[round(0.025 * draws)], means[round(0.975 * draws)]


def mean_squares(table: Any) -> tuple[float, float, float]:
    """Mean squares of lines, columns and the rest of a two-way table, by loops."""
    lines, columns = table.shape
    mean = sum(float(value) for value in table.flatten()) / (lines * columns)
    by_line = [sum(float(table[i, j]) for j in range(columns)) / columns for i in range(lines)]
    by_column = [sum(float(table[i, j]) for i in range(lines)) / lines for j in range(columns)]
    rest = sum(
        (float(table[i, j]) - by_line[i] - by_column[j] + mean) ** 2 for i in range(lines) for j in range(columns)
    )
    return (
        columns * sum((value - mean) ** 2 for value in by_line) / (lines - 1),
        lines * sum((value - mean) ** 2 for value in by_column) / (columns - 1),
        rest / ((lines - 1) * (columns - 1)),
    )
