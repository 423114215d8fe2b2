"""``spice-select evaluations``: evaluate the selection of a job on the service."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spice_select.cli import options
from spice_select.cli.evaluation import print_report
from spice_select.cli.output import (
    exit_of,
    leave,
    leave_detached,
    money,
    note,
    print_event,
    print_fields,
    print_json,
    print_problem,
    print_table,
    shown,
)
from spice_select.cli.progress import ProgressView
from spice_select.cli.settings import EVALUATION_SETTINGS, JOB_SETTINGS, with_settings

if TYPE_CHECKING:
    from spice_select.client import Client, Evaluation, EvaluationEstimate

app = typer.Typer(
    help="Have the service find out whether a job's selection trains better than random rows.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

EvaluationId = Annotated[str, typer.Argument(metavar="EVALUATION", help="Id of an evaluation (ev_...).")]


@app.command()
@with_settings("evaluation", EVALUATION_SETTINGS)
def submit(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Id of a job with a result (job_...).")],
    held_out: Annotated[
        str | None,
        typer.Option(help="Data set (ds_...) of held-out rows; when left out, the rows that the job excluded."),
    ] = None,
    group: Annotated[str | None, typer.Option(help="Column that names a row's group.")] = None,
    model: Annotated[str | None, typer.Option(help="Model to train; the job's proxy model when left out.")] = None,
    *,
    evaluation: dict[str, Any],
    control: Annotated[
        list[str] | None,
        typer.Option(help="A control as in docs/api.md, such as random_length; may be repeated. All when left out."),
    ] = None,
    max_length: Annotated[int | None, typer.Option(help=JOB_SETTINGS["max_length"].help)] = None,
    name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    metadata: options.Metadata = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Repeating the command with the same key makes no second evaluation.")
    ] = None,
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Say what it would take: rows, trainings, tokens, seconds. Nothing is made."),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the evaluation has ended.")] = False,
    max_wait: options.MaxWait = None,
    json: options.Json = False,
) -> None:
    """Train on what JOB selected and on controls from the same start; say which did better on held-out rows."""
    fields = {
        "holdout_dataset_id": held_out,
        "group": group,
        "model": model,
        **evaluation,
        "controls": control,
        "max_length": max_length,
        "name": name,
        "metadata": options.pairs(metadata, "--metadata"),
    }
    with options.service() as client:
        if estimate:
            _present_estimate(client.evaluations.estimate(job, **fields), json=json)
            return
        made = client.evaluations.submit(job, idempotency_key=idempotency_key, **fields)
        if wait:
            _finish(client, made.id, max_wait, json=json)
    _present(made, json=json)
    if not json:
        note(f"watch it with: spice-select evaluations watch {made.id}")


@app.command()
def watch(evaluation: EvaluationId, max_wait: options.MaxWait = None, json: options.Json = False) -> None:
    """Wait until an evaluation has ended; the exit status says how."""
    with options.service() as client:
        _finish(client, evaluation, max_wait, json=json)


@app.command("list")
def list_evaluations(
    status: Annotated[
        str | None, typer.Option(help="Only in this state: queued, running, succeeded, failed, cancelled.")
    ] = None,
    job: Annotated[str | None, typer.Option(help="Only of this job.")] = None,
    metadata: options.OnlyMetadata = None,
    created_after: options.CreatedAfter = None,
    created_before: options.CreatedBefore = None,
    name: options.OnlyName = None,
    search: options.WithText = None,
    sort: options.SortBy = None,
    limit: Annotated[int, typer.Option(min=1, help="Most entries.")] = 50,
    json: options.Json = False,
) -> None:
    """List evaluations, newest first."""
    wanted = options.list_filters(metadata, created_after, created_before, name=name, q=search, sort=sort)
    with options.service() as client:
        evaluations = list(islice(client.evaluations.list(status=status, job_id=job, **wanted), limit))
    if json:
        print_json({"data": evaluations})
        return
    rows = (
        [one.id, one.status, one.phase, one.job_id, (one.result or {}).get("verdict"), one.name, one.created_at]
        for one in evaluations
    )
    print_table(["ID", "STATUS", "PHASE", "JOB", "VERDICT", "NAME", "CREATED"], rows)


@app.command()
def show(evaluation: EvaluationId, json: options.Json = False) -> None:
    """Show an evaluation, with its report if it has one."""
    with options.service() as client:
        _present(client.evaluations.get(evaluation), json=json)


@app.command()
def events(
    evaluation: EvaluationId,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show the history of an evaluation."""
    with options.service() as client:
        for event in client.evaluations.events(evaluation):
            if json:
                print_json(event)
            else:
                print_event(event)


@app.command()
def cancel(evaluation: EvaluationId, json: options.Json = False) -> None:
    """Stop an evaluation; nothing of it is kept."""
    with options.service() as client:
        _present(client.evaluations.cancel(evaluation), json=json)


def _finish(client: Client, evaluation_id: str, max_wait: float | None, *, json: bool) -> None:
    """Wait for an evaluation, print it and exit as it ended; Ctrl-C ends the waiting, not the evaluation."""
    try:
        with ProgressView(quiet=json) as view:
            evaluation = client.evaluations.wait(evaluation_id, on_progress=view.evaluation, max_wait=max_wait)
    except KeyboardInterrupt:
        leave_detached(evaluation_id, f"spice-select evaluations watch {evaluation_id}")
    _present(evaluation, json=json)
    leave(exit_of(evaluation))


def _present_estimate(estimate: EvaluationEstimate, *, json: bool) -> None:
    if json:
        print_json(estimate)
        return
    print_fields(
        {
            "rows": f"{estimate.chosen} selected of {estimate.rows}, evaluated on {estimate.held_out}",
            "trainings": f"{estimate.trainings} of {estimate.steps} steps: {', '.join(estimate.arms)}",
            "tokens": estimate.tokens,
            "seconds": None
            if estimate.seconds is None
            else f"{shown(estimate.seconds)} on one worker, without waiting",
            "cost": money(estimate.cost),
        }
    )
    for line in estimate.notes:
        note(f"note: {line}")


def _present(evaluation: Evaluation, *, json: bool) -> None:
    if json:
        print_json(evaluation)
        return
    fields = {
        "evaluation": evaluation.id,
        "status": evaluation.status,
        "job": evaluation.job_id,
        "held-out rows": evaluation.holdout_dataset_id or "the rows that the job excluded",
        "model": evaluation.model.get("model"),
    }
    print_fields(fields)
    if evaluation.result is not None:
        print_report(evaluation.result)
    if evaluation.error is not None:
        print_problem(evaluation.error, f"{evaluation.id} {evaluation.status}")
