"""``spice-select estimate``: what a job would take, before it is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spice_select.cli import options
from spice_select.cli.datasets import end, wait_for
from spice_select.cli.output import Exit, leave, money, note, print_fields, print_json, shown, size
from spice_select.cli.settings import JOB_SETTINGS, with_settings

if TYPE_CHECKING:
    from spice_select.client import Estimate

SECONDS_BASES = {
    "measured": ", from past units with this model and these settings",
    "other_settings": ", from past units with this model and other settings",
    "assumed": ", assumed: no unit with this model has run here yet",
}
ESTIMATED = {"preset", "method", "proxy", "revision", "sketch_dim", "targets", "max_length", "batch_tokens"} | {
    "layers", "schedule", "window_size", "warmup_steps", "tuned_weights",
}  # fmt: skip
"""Settings that change what a job takes."""


@with_settings("settings", JOB_SETTINGS, ESTIMATED)
def estimate(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="File to select from, or the id of a data set (ds_...).")
    ],
    budget: options.BudgetOption,
    settings: dict[str, Any],
    json: options.Json = False,
) -> None:
    """Say what a job would take; a file is sent first. Ends with status 1 if it cannot fit."""
    with options.service() as client:
        dataset_id = source
        if not source.startswith("ds_"):
            if not Path(source).is_file():
                options.refuse(f"no file {source}")
            dataset = wait_for(client, client.datasets.push(source), None, quiet=json)
            end(dataset)
            dataset_id = dataset.id
        estimated = client.jobs.estimate(dataset_id, budget, **settings)
    if json:
        print_json({"dataset_id": dataset_id, **estimated.model_dump(mode="json")})
    else:
        _present(dataset_id, estimated)
    if estimated.fits is False:
        leave(Exit.FAILED)


def _present(dataset_id: str, estimated: Estimate) -> None:
    basis = {"measured": "", "other_data": ", from other data", "assumed": ", assumed"}.get(
        estimated.tokens_basis or "", ""
    )
    memory, seconds = estimated.memory, estimated.seconds
    print_fields(
        {
            "data set": dataset_id,
            "rows": estimated.rows,
            "tokens": None if estimated.tokens is None else f"{estimated.tokens}{basis}",
            "batches": estimated.batches,
            "gradients": "already computed"
            if estimated.gradients_reused
            else (
                None
                if estimated.gradient_bytes is None
                else f"{size(estimated.gradient_bytes)}, {estimated.features} a row"
            ),
            "memory for gradients": size(memory.gradients) if memory.gradients is not None else None,
            "memory for training steps": size(memory.tuning) if memory.tuning is not None else None,
            "memory for selection": size(memory.selecting_least) if memory.selecting_least is not None else None,
            "memory available": size(memory.device) if memory.device is not None else None,
            "seconds": None
            if seconds.total is None
            else f"{shown(seconds.total)} without waiting{SECONDS_BASES.get(estimated.seconds_basis or '', '')}",
            "cost": money(estimated.cost),
            "fits": {True: "yes", False: "no", None: "unknown"}[estimated.fits],
        }
    )
    for line in (*estimated.obstacles, *estimated.notes):
        note(f"note: {line}")
