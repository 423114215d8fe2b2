"""``spice-select hold-out`` and ``evaluate``: does the selection train better than rows drawn at random?"""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated, Any

import typer

from spice_select.cli import options
from spice_select.cli.local import torch_device
from spice_select.cli.output import note, print_fields, print_json, print_table, shown
from spice_select.cli.progress import ProgressView
from spice_select.cli.settings import EVALUATION_SETTINGS, JOB_SETTINGS, checked, run_config, with_settings
from spice_select.config import ProxyConfig
from spice_select.models.threads import let_idle_threads_sleep

Share = Annotated[float, typer.Option(min=0.001, max=0.9, help="Share of the rows to hold out.")]
Group = Annotated[str | None, typer.Option("--group", help="Column that names a row's group.")]
REPORT = "evaluation.json"
FEW = 30
"""Held-out rows below which a verdict is said to rest on few."""
SELECTING = ("preset", "method", "conflict_penalty", "matching_weight", "target_rule", "objective", "proxy")
"""Settings of the selection that an evaluation makes."""


def hold_out(
    file: options.SourceFile,
    output: Annotated[Path, typer.Option("--output", "-o", file_okay=False, help="Folder for the two files.")] = Path(
        "spice-split"
    ),
    share: Share = 0.1,
    group: Group = None,
    format: options.Format = None,
    column: options.Column = None,
    seed: Annotated[int | None, typer.Option(help=JOB_SETTINGS["seed"].help)] = None,
    json: options.Json = False,
) -> None:
    """Split a file into a pool and held-out rows; near-duplicates stay together."""
    from spice_select.evaluation.held_out_files import hold_out_file

    cut = hold_out_file(file, output, share=share, group=group, options=_intake(format, column), seed=seed or 0)
    fields = {
        "pool": f"{cut.pool} ({cut.pool_rows} rows)",
        "held out": f"{cut.held_out} ({cut.held_out_rows} rows)",
        "near-duplicates": f"{cut.clustered} rows in {cut.clusters} clusters",
    }
    if json:
        print_json(
            {
                "pool": str(cut.pool),
                "held_out": str(cut.held_out),
                "pool_rows": cut.pool_rows,
                "held_out_rows": cut.held_out_rows,
                "clusters": cut.clusters,
                "clustered": cut.clustered,
            }
        )
    else:
        print_fields(fields)


@with_settings("settings", JOB_SETTINGS, SELECTING)
@with_settings("evaluation", EVALUATION_SETTINGS)
def evaluate(
    file: options.SourceFile,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", "-b", help="Hold rows out of FILE, then select this much of the rest and evaluate that."
        ),
    ] = None,
    job_folder: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Evaluate the selection in this folder, which was made from FILE."
        ),
    ] = None,
    ranking: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The same, by its ranking.parquet alone.")
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Rows to judge by; rows of FILE that are like one are left out."
        ),
    ] = None,
    target: options.Target = None,
    target_weight: options.TargetWeight = None,
    output: Annotated[Path, typer.Option("--output", "-o", file_okay=False, help="Folder for the report.")] = Path(
        "spice-evaluation"
    ),
    share: Share = 0.1,
    group: Group = None,
    *,
    settings: dict[str, Any],
    model: Annotated[str | None, typer.Option(help="Model to train; the proxy model when left out.")] = None,
    evaluation: dict[str, Any],
    max_length: Annotated[int, typer.Option(min=8, help="Longest sequence in tokens.")] = 512,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    format: options.Format = None,
    column: options.Column = None,
    json: options.Json = False,
) -> None:
    """Train on the selection and on controls from the same start, and say which did better on held-out rows.

    With --budget and --target one half of each target's rows selects and the other half judges, unless --held-out
    names rows to judge by.
    """
    if [budget, job_folder, ranking].count(None) != 2:
        options.refuse("give exactly one of --budget, --job-folder and --ranking")
    if budget is None and target:
        options.refuse("--target goes with --budget; a result says itself what it was selected for")
    let_idle_threads_sleep()
    from spice_select.evaluation.evaluate import CHOSEN, select_beside
    from spice_select.evaluation.evaluate import evaluate as run_evaluation
    from spice_select.evaluation.settings import EvaluationConfig
    from spice_select.pipeline.targets import TargetFile

    wanted = [TargetFile(*given) for given in options.target_files(target, target_weight)]
    config = checked(EvaluationConfig, evaluation, "evaluation")
    where, intake = torch_device(device), _intake(format, column)
    pool: Path = file
    judges: Path | dict[str, Path] | None = held_out
    if budget is not None:
        seeded = options.without_none(seed=evaluation.get("seed"))
        run = run_config(budget, {**settings, **seeded}, {}, targeted=bool(wanted))
        pool, judges = select_beside(
            file,
            run,
            output,
            held_out=held_out,
            targets=wanted,
            share=share,
            group=group,
            device=where,
            options=intake,
            seed=config.seed,
        )
        job_folder = output / CHOSEN
    if job_folder is not None:
        ranking = job_folder / "ranking.parquet"
    assert ranking is not None
    with ProgressView(quiet=json) as view:
        report = run_evaluation(
            pool,
            ranking,
            config,
            held_out=judges,
            share=share,
            group=group,
            proxy=checked(ProxyConfig, {"model": model} if model else settings.get("proxy", {}), "proxy"),
            max_length=max_length,
            device=where,
            options=intake,
            on_progress=lambda arm, done, total: view.show("training", done, total, "trainings", detail=arm),
        )
        view.end("done")
    output.mkdir(parents=True, exist_ok=True)
    (output / REPORT).write_text(json_text.dumps(report, indent=1) + "\n", encoding="utf-8", newline="\n")
    if json:
        print_json(report)
        return
    print_report(report)
    note(f"the report is in {output / REPORT}")


def print_report(report: dict[str, Any]) -> None:
    """A report for a person.

    Args:
        report: The report as JSON values.
    """
    rows = [["start", "", "", "", "", report["loss_at_start"], ""]]
    differences = {entry["control"]: entry for entry in report["comparisons"]}
    for arm in report["arms"]:
        entry = differences.get(arm["name"])
        text = f"{entry['mean']:+.4f} ({entry['low']:+.4f} to {entry['high']:+.4f})" if entry else ""
        mean = len(arm["rows"])
        rows.append(
            [
                arm["name"],
                arm["role"],
                round(sum(arm["rows"]) / mean),
                round(sum(arm["tokens_trained"]) / mean),
                round(sum(arm["seconds"]) / mean, 1),
                arm["loss"],
                text,
            ]
        )
    columns = ["trained on", "role", "rows", "tokens", "seconds", "held-out loss", "selection better by"]
    print_table(
        columns, [[f"{v:.4f}" if isinstance(v, float) and i == 5 else v for i, v in enumerate(r)] for r in rows]
    )
    for check in report["power"]:
        text = "seen" if check["seen"] else "NOT SEEN"
        note(f"{text}: {check['claim']} ({shown(check['low'])} to {shown(check['high'])} nats)")
    if report["choice_saw_held_out_rows"]:
        note("note: the held-out rows were in the pool of the selection; `spice-select hold-out` splits first")
    judges, model = report["held_out_rows"], str(report["model"])
    if model.startswith("builtin:"):
        note(f"note: {model} is untrained: its losses show that everything works, not what helps a model in use")
    if judges < FEW:
        note(f"note: only {judges} held-out rows judge; other rows may well give another verdict")
    print_fields(
        {"judged by": f"{judges} held-out rows", "verdict": report["verdict"].replace("_", " "), "": report["sentence"]}
    )


def _intake(format: str | None, column: list[str] | None) -> Any:
    from spice_select.ingest import IntakeOptions

    columns = options.pairs(column, "--column")
    return checked(IntakeOptions, options.without_none(format=format, columns=columns), "columns")
