"""The paper's claims that gradients alone decide, on the real model and a pool of the protocol."""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.claims import of_gradients
from benchmarks.machine import describe
from benchmarks.quality.runner import Runner

FRACTION = 0.1


def claims_on(runner: Runner, scale: str, number: int = 0) -> dict[str, Any]:
    """The claims on one draw of the dirty pool.

    Args:
        runner: Knows where its gradients are.
        scale: Name of the scale.
        number: Number of the draw.
    """
    pool = runner.pool("dirty", number, FRACTION)
    measured = pool.measured
    alive = measured.features.any(axis=1)
    unit = torch.nn.functional.normalize(torch.from_numpy(measured.features[alive]).double(), dim=1)
    norms = torch.from_numpy(measured.norms[alive])
    dimension, count = unit.shape[1], round(FRACTION * len(unit))
    rows = in_their_span(unit)
    return {
        "machine": describe(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "scale": scale,
        "model": runner.features.identity,
        "pool": {"rows": len(unit), "dimension": dimension, "chosen": count, "draw": number},
        "command": f"python -m benchmarks.quality --scale {scale} --data DATA --model MODEL "
        "--claims benchmarks/quality",
        "claims": of_gradients(rows, rows * (norms / norms.median())[:, None], count),
    }


def in_their_span(rows: torch.Tensor) -> torch.Tensor:
    """The rows in coordinates of the space that they span: the same products in at most n numbers.

    Args:
        rows: float64 of shape (n, d).
    """
    return rows if rows.shape[1] <= len(rows) else torch.linalg.qr(rows.T).R.T.contiguous()
