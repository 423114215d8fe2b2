"""``spice-select run``, ``verify`` and ``version``: no service needed. Heavy packages are imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from spice_select.cli import options
from spice_select.cli.output import Exit, leave, note, out, print_fields, print_json, shown
from spice_select.cli.progress import ProgressView
from spice_select.models.threads import let_idle_threads_sleep
from spice_select.version import GRADIENT_FORMAT, __version__


def run(
    file: options.SourceFile,
    budget: options.BudgetOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", file_okay=False, help="Folder for the files of the result.")
    ] = Path("spice-output"),
    cache: Annotated[
        str | None,
        typer.Option(
            metavar="<dir>",
            help="Folder for gradients, warm-ups and checkpoints, or an address (s3://bucket/prefix) for gradients and "
            "warm-ups: what is there is not done again.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    format: options.Format = None,
    column: options.Column = None,
    preset: options.PresetName = None,
    method: options.Method = None,
    proxy: options.Proxy = None,
    revision: options.Revision = None,
    alpha: options.Alpha = None,
    conflict_penalty: options.ConflictPenalty = None,
    matching_weight: options.MatchingWeight = None,
    stop_ratio: options.StopRatio = None,
    information: options.Information = None,
    seed: options.Seed = None,
    targets: options.Targets = None,
    sketch_dim: options.SketchDim = None,
    loss: options.Loss = None,
    normalize: options.Normalize = None,
    max_length: options.MaxLength = None,
    batch_tokens: options.BatchTokens = None,
    store_dtype: options.StoreDtype = None,
    schedule: options.ScheduleKind = None,
    steps_every: options.StepsEvery = None,
    window_size: options.WindowSize = None,
    warmup_steps: options.WarmupSteps = None,
    tuned_weights: options.TunedWeights = None,
    learning_rate: options.LearningRate = None,
    step_tokens: options.StepTokens = None,
    must_include: options.MustInclude = None,
    exclude: options.Exclude = None,
    given: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="A result on the same gradients whose rows are owned already."),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="For the method less: a file that the choice is to be close to."
        ),
    ] = None,
    deadline: options.Deadline = None,
    json: options.Json = False,
) -> None:
    """Choose from a file on this machine, without a service."""
    config = options.run_config(
        budget,
        options.without_none(
            method=method,
            alpha=alpha,
            conflict_penalty=conflict_penalty,
            matching_weight=matching_weight,
            stop_ratio=stop_ratio,
            information=information,
            scope=options.scope_settings(schedule, window_size),
        ),
        options.gradient_settings(
            targets=targets,
            sketch_dim=sketch_dim,
            loss=loss,
            normalize=normalize,
            max_length=max_length,
            batch_tokens=batch_tokens,
            store_dtype=store_dtype,
            warmup_steps=warmup_steps,
            tuned_weights=tuned_weights,
            learning_rate=learning_rate,
            step_tokens=step_tokens,
        ),
        options.proxy_settings(proxy, revision),
        seed,
        options.without_none(
            must_include=options.rows(must_include, "--must-include"), exclude=options.rows(exclude, "--exclude")
        ),
        preset,
        options.schedule_settings(schedule, steps_every),
    )
    columns = options.pairs(column, "--column")

    let_idle_threads_sleep()
    from spice_select.ingest import IntakeOptions
    from spice_select.pipeline.run import run as run_pipeline

    intake = options.checked(IntakeOptions, options.without_none(format=format, columns=columns), "columns")
    with ProgressView(quiet=json) as view:
        result = run_pipeline(
            file,
            config,
            output,
            cache=cache,
            device=torch_device(device),
            options=intake,
            deadline_seconds=deadline,
            given=given,
            target=target,
            on_progress=view.step,
        )
        view.end("done")
    if json:
        print_json(
            {
                **result.summary,
                "gradients_reused": result.gradients_reused,
                "files": {name: str(path) for name, path in result.files.items()},
            }
        )
        return
    print_fields(summary_fields(result.summary))
    note(f"files are in {output}; check them with: spice-select verify {output} --source {file}")


def torch_device(wish: str) -> str:
    """The device that was wished for; a CUDA device where there is one for ``auto``."""
    if wish not in {"auto", "cpu", "cuda"} and not wish.startswith("cuda:"):
        options.refuse(f"no device {wish!r}; there is auto, cpu and cuda")
    import torch

    if wish == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wish != "cpu" and not torch.cuda.is_available():
        options.refuse(f"device {wish}: no CUDA device here")
    return wish


def summary_fields(summary: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a result for a person."""
    certificate = summary["certificate"]
    return {
        "selected": f"{summary['selected']} of {summary['pool']} rows",
        "tokens": f"{summary['tokens_selected']} of {summary['tokens_pool']}",
        "utility": f"{shown(summary['utility'])} nats; {shown(summary['random_control']['utility'])} at random",
        "gain": f"{shown(summary['first_gain'])} nats first, {shown(summary['last_gain'])} last",
        "mean conflict": summary["mean_conflict"],
        "proven": f"at least {100 * certificate['ratio']:.1f} % of the best"
        if certificate and certificate["ratio"] is not None
        else None,
        "lost by the scope": f"{100 * summary['scope']['loss']:.2f} % on a sample of {summary['scope']['sample']}"
        if summary.get("scope")
        else None,
        "warmed up": f"{summary['warmup']['steps']} steps, {summary['warmup']['tokens']} tokens"
        if summary.get("warmup")
        else None,
        "schedule": f"periodic, {summary['schedule']['windows_done']} of {summary['schedule']['windows']} windows, "
        f"{summary['schedule']['steps']} steps"
        if summary.get("schedule")
        else None,
        "ended because": summary["stop_reason"],
        "seconds": summary["seconds"],
    }


def verify(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder with the files of a result.")],
    source: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="The file that the rows were chosen from."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Check every digest of a result, and its rows against the source if that is given."""
    from spice_select.results.verify import verify_folder

    report = verify_folder(folder, source)
    if json:
        print_json({"ok": report.ok, "checks": [check._asdict() for check in report.checks]})
    else:
        for check in report.checks:
            out().print(f"{'ok    ' if check.ok else 'FAILED'}  {check.name}: {check.detail}", markup=False)
    if not report.ok:
        leave(Exit.FAILED)


def version(json: options.Json = False) -> None:
    """Print the version."""
    if json:
        print_json({"version": __version__, "gradient_format": GRADIENT_FORMAT})
    else:
        out().print(f"spice-select {__version__}")
