"""Forms of the gradients that the library does not give by itself, or that cost another pass over the pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import spice_select as ss
from spice_select.config import Tuning
from spice_select.records.tokenize import Example
from spice_select.training.warmup import put_on, warm_up

WARM = ss.GradientConfig(
    warmup_steps=25, tuning=Tuning(weights="full", learning_rate=1e-3, step_tokens=2048), targets="linear"
)
"""About as many tokens as a tenth of the pool, on rows drawn at random, half of the way to the search's own rate."""
EXACT = ss.GradientConfig(normalize="none", sketch_dim=None)
CHUNK = 256
BUCKETS = 1344
"""As many numbers as the library's sketch keeps of the search's proxy."""


def warmed(folder: Path, examples: Sequence[Example], *, seed: int) -> torch.Tensor:
    """Gradients of length one at the proxy after a warm-up.

    Args:
        folder: The proxy.
        examples: The rows.
        seed: Draws the rows of the warm-up.

    Returns:
        Shape (n, d).
    """
    model = _loaded(folder)
    config = WARM.model_copy(update={"seed": seed})
    weights, _ = warm_up(model, examples, config)
    put_on(model, weights, config)
    return ss.collect_gradients(model, examples, ss.GradientConfig())


def preconditioned(folder: Path, examples: Sequence[Example], *, seed: int) -> torch.Tensor:
    """Adam's directions: each weight's gradient over the root of its mean square in the pool, of length one.

    The mean square is what the second moment of Adam tends to with one row a step. The result is sketched afterwards,
    since a division of each weight cannot be done on sketches: every number is added with a random sign to one of
    ``BUCKETS``, which keeps inner products in the mean.

    Args:
        folder: The proxy.
        examples: The rows.
        seed: Of signs and buckets.

    Returns:
        Shape (n, BUCKETS).
    """
    model = _loaded(folder)
    square = sum(part.square().sum(dim=0, dtype=torch.float64) for part in _exact(model, examples)) / len(examples)
    assert isinstance(square, torch.Tensor)
    scale = 1 / (square.sqrt() + 1e-8).float()
    draw = torch.Generator().manual_seed(seed)
    buckets = torch.randint(BUCKETS, (len(scale),), generator=draw)
    signs = torch.randint(2, (len(scale),), generator=draw).float() * 2 - 1
    sketched = [
        torch.zeros(len(part), BUCKETS).index_add_(
            1, buckets, torch.nn.functional.normalize(part * scale, dim=1) * signs
        )
        for part in _exact(model, examples)
    ]
    return torch.nn.functional.normalize(torch.cat(sketched), dim=1)


OTHER_FORMS: Mapping[str, Callable[..., torch.Tensor]] = {"warm": warmed, "adam": preconditioned}


def _exact(model: Any, examples: Sequence[Example]) -> Iterator[torch.Tensor]:
    for start in range(0, len(examples), CHUNK):
        yield ss.collect_gradients(model, examples[start : start + CHUNK], EXACT)


def _loaded(folder: Path) -> Any:
    return ss.load_proxy(ss.ProxyConfig(model=str(folder.resolve())), ss.GradientConfig()).model
