"""``spice-select estimate``: what a job would take, before it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spice_select.cli import options
from spice_select.cli.datasets import end, wait_for
from spice_select.cli.output import Exit, leave, note, print_fields, print_json, shown, size
from spice_select.client import Estimate


def estimate(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="File to choose from, or the id of a data set (ds_...).")
    ],
    budget: options.BudgetOption,
    preset: options.PresetName = None,
    method: options.Method = None,
    proxy: options.Proxy = None,
    revision: options.Revision = None,
    sketch_dim: options.SketchDim = None,
    targets: options.Targets = None,
    max_length: options.MaxLength = None,
    batch_tokens: options.BatchTokens = None,
    schedule: options.ScheduleKind = None,
    window_size: options.WindowSize = None,
    warmup_steps: options.WarmupSteps = None,
    tuned_weights: options.TunedWeights = None,
    json: options.Json = False,
) -> None:
    """Say what a job would take; a file is sent first. Ends with status 1 if it cannot fit."""
    gradients = options.gradient_settings(
        targets=targets,
        sketch_dim=sketch_dim,
        max_length=max_length,
        batch_tokens=batch_tokens,
        warmup_steps=warmup_steps,
        tuned_weights=tuned_weights,
    )
    scope = options.scope_settings(schedule, window_size)
    with options.service() as client:
        dataset_id = source
        if not source.startswith("ds_"):
            if not Path(source).is_file():
                options.refuse(f"no file {source}")
            dataset = wait_for(client, client.datasets.push(source), None, quiet=json)
            end(dataset)
            dataset_id = dataset.id
        found = client.jobs.estimate(
            dataset_id,
            budget,
            preset=preset,
            method=method,
            proxy=options.proxy_settings(proxy, revision),
            gradients=gradients or None,
            schedule=options.schedule_settings(schedule, None),
            selection=None if scope is None else {"scope": scope},
        )
    if json:
        print_json({"dataset_id": dataset_id, **found.model_dump(mode="json")})
    else:
        _present(dataset_id, found)
    if found.fits is False:
        leave(Exit.FAILED)


def _batches(found: Estimate) -> str | None:
    if found.batches is None or found.batch_tokens is None:
        return None if found.batches is None else str(found.batches)
    chosen = f" (auto, from {found.batch_tokens.basis})" if found.batch_tokens.requested == "auto" else ""
    return f"{found.batches} of at most {found.batch_tokens.tokens} tokens{chosen}"


def _present(dataset_id: str, found: Estimate) -> None:
    basis = {"measured": "", "other_data": ", from other data", "assumed": ", assumed"}.get(
        found.tokens_basis or "", ""
    )
    memory, seconds = found.memory, found.seconds
    print_fields(
        {
            "data set": dataset_id,
            "rows": found.rows,
            "tokens": None if found.tokens is None else f"{found.tokens}{basis}",
            "batches": _batches(found),
            "gradients": "there already"
            if found.gradients_reused
            else (None if found.gradient_bytes is None else f"{size(found.gradient_bytes)}, {found.features} a row"),
            "memory to measure": size(memory.gradients) if memory.gradients is not None else None,
            "memory to tune": size(memory.tuning) if memory.tuning is not None else None,
            "memory to choose": size(memory.selecting_least) if memory.selecting_least is not None else None,
            "memory there is": size(memory.device) if memory.device is not None else None,
            "seconds": None if seconds.total is None else f"{shown(seconds.total)} without waiting",
            "fits": {True: "yes", False: "no", None: "cannot be told"}[found.fits],
        }
    )
    for line in (*found.obstacles, *found.notes):
        note(f"note: {line}")
