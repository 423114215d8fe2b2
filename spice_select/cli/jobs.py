"""``spice-select jobs``."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spice_select.cli import datasets, options
from spice_select.cli.job_targets import job_targets
from spice_select.cli.output import (
    exit_of,
    leave,
    leave_detached,
    note,
    out,
    print_event,
    print_job,
    print_json,
    print_log_line,
    print_problem,
    print_table,
)
from spice_select.cli.progress import ProgressView
from spice_select.cli.settings import JOB_SETTINGS, with_settings

if TYPE_CHECKING:
    from spice_select.client import Client, Job

app = typer.Typer(help="Submit jobs, watch and cancel them.", no_args_is_help=True, rich_markup_mode=None)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job (job_...).")]


@app.command()
@with_settings("settings", JOB_SETTINGS)
def submit(
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset",
            "-d",
            help="Id of a data set that is ready (ds_...), or an address that the service fetches one from: "
            "hf://datasets/ORG/NAME@REVISION, https://, s3:// or file:PATH.",
        ),
    ],
    budget: options.BudgetOption,
    settings: dict[str, Any],
    must_include: options.MustInclude = None,
    exclude: options.Exclude = None,
    given_job: Annotated[
        str | None,
        typer.Option(help="A job on this data set, or an earlier version of it, whose rows are owned already."),
    ] = None,
    target: options.JobTarget = None,
    target_weight: options.TargetWeight = None,
    protect: options.JobProtect = None,
    target_dataset: Annotated[
        str | None,
        typer.Option(help="For the method less: the data set (ds_...) that the selection is to be close to."),
    ] = None,
    deadline: options.Deadline = None,
    priority: Annotated[
        int | None, typer.Option(min=-100, max=100, help="Higher is served first; 0 when left out.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    metadata: options.Metadata = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Repeating the command with the same key makes no second job.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the job has ended.")] = False,
    max_wait: options.MaxWait = None,
    json: options.Json = False,
) -> None:
    """Submit a job; settings that are left out are the service's defaults."""
    from spice_select.client.answers import raise_failure
    from spice_select.ingest.source_urls import is_address

    with options.service() as client:
        if is_address(dataset):
            fetched = datasets.wait_for(client, client.datasets.from_source(dataset), max_wait, quiet=json)
            if fetched.status != "ready":
                raise_failure(fetched, f"data set {fetched.id} is {fetched.status}")
            dataset = fetched.id
        targets = job_targets(client, target, target_weight, max_wait, quiet=json)
        kept = job_targets(client, protect, None, max_wait, quiet=json, option="--protect")
        job = client.jobs.submit(
            dataset,
            budget,
            idempotency_key=idempotency_key,
            **settings,
            deadline_seconds=deadline,
            priority=priority,
            name=name,
            metadata=options.pairs(metadata, "--metadata"),
            must_include=options.rows(must_include, "--must-include"),
            exclude=options.rows(exclude, "--exclude"),
            given_job=given_job,
            target_dataset_id=target_dataset,
            **({"targets": targets} if targets else {}),
            **({"protect": kept} if kept else {}),
        )
        if wait:
            finish(client, job.id, max_wait, json=json)
    if json:
        print_json(job)
    else:
        print_job(job)
        note(f"watch it with: spice-select jobs watch {job.id}")


@app.command()
def watch(job: JobId, max_wait: options.MaxWait = None, json: options.Json = False) -> None:
    """Wait until a job has ended; the exit status says how."""
    with options.service() as client:
        finish(client, job, max_wait, json=json)


def finish(client: Client, job_id: str, max_wait: float | None, *, json: bool) -> None:
    """Wait for a job, print it and exit as it ended; Ctrl-C ends the waiting, not the job."""
    try:
        with ProgressView(quiet=json) as view:
            job = client.jobs.wait(job_id, on_progress=view.job, max_wait=max_wait)
    except KeyboardInterrupt:
        leave_detached(job_id, f"spice-select jobs watch {job_id}")
    present(job, json=json)
    leave(exit_of(job))


def present(job: Job, *, json: bool) -> None:
    """Print a job, and its error if it has one."""
    if json:
        print_json(job)
        return
    print_job(job)
    if job.error is not None:
        print_problem(job.error, f"{job.id} {job.status}")


@app.command("list")
def list_jobs(
    status: Annotated[
        str | None, typer.Option(help="Only in this state: queued, running, succeeded, failed, cancelled, expired.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Only on this data set.")] = None,
    method: Annotated[str | None, typer.Option(help="Only by this method.")] = None,
    target: Annotated[str | None, typer.Option(help="Only for this target: its name, or its data set's id.")] = None,
    metadata: options.OnlyMetadata = None,
    created_after: options.CreatedAfter = None,
    created_before: options.CreatedBefore = None,
    name: options.OnlyName = None,
    search: options.WithText = None,
    sort: options.SortBy = None,
    limit: Annotated[int, typer.Option(min=1, help="Most entries.")] = 50,
    json: options.Json = False,
) -> None:
    """List jobs, newest first."""
    wanted = options.list_filters(metadata, created_after, created_before, name=name, q=search, sort=sort)
    with options.service() as client:
        jobs = list(
            islice(client.jobs.list(status=status, dataset_id=dataset, method=method, target=target, **wanted), limit)
        )
    if json:
        print_json({"data": jobs})
        return
    print_table(
        ["ID", "STATUS", "PHASE", "DATA SET", "SELECTED", "NAME", "CREATED"],
        (
            [
                one.id,
                one.status,
                one.phase,
                one.dataset_id,
                f"{one.result.selected} of {one.result.pool}" if one.result else None,
                one.name,
                one.created_at,
            ]
            for one in jobs
        ),
    )


@app.command()
def show(job: JobId, json: options.Json = False) -> None:
    """Show one job."""
    with options.service() as client:
        present(client.jobs.get(job), json=json)


@app.command()
def events(
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show the history of a job."""
    with options.service() as client:
        try:
            for event in client.events(job) if follow else client.jobs.events(job):
                if json:
                    print_json(event)
                else:
                    print_event(event)
        except KeyboardInterrupt:
            leave_detached(job, f"spice-select jobs events --follow {job}")


@app.command()
def logs(
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    level: Annotated[str | None, typer.Option(help="Only of this level or a worse one: info, warning, error.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show what the workers did for a job, unit by unit."""
    with options.service() as client:
        try:
            for line in client.jobs.logs(job, level=level, follow=follow):
                if json:
                    print_json(line)
                else:
                    print_log_line(line)
        except KeyboardInterrupt:
            leave_detached(job, f"spice-select logs --follow {job}")


@app.command()
def link(
    job: JobId,
    file: Annotated[str, typer.Argument(help="File of the result.")] = "selected.parquet",
    expires: Annotated[float, typer.Option(min=1, help="Seconds for which it opens.")] = 3600.0,
    k: Annotated[int | None, typer.Option("-k", min=1, help="Only the first k selected rows.")] = None,
    json: options.Json = False,
) -> None:
    """Print an address that opens a file without an API key: for `datasets`, Axolotl, polars, DuckDB."""
    with options.service() as client:
        made = client.jobs.link(job, file, expires_in_seconds=expires, k=k)
    if json:
        print_json(made)
        return
    out().print(made.url, markup=False, soft_wrap=True)


@app.command()
def cancel(job: JobId, json: options.Json = False) -> None:
    """Stop a job; what it has selected so far is kept."""
    with options.service() as client:
        present(client.jobs.cancel(job), json=json)


@app.command()
def retry(
    job: JobId,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Repeating the command with the same key makes no second job.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the new job has ended.")] = False,
    max_wait: options.MaxWait = None,
    json: options.Json = False,
) -> None:
    """Queue a job that failed, was cancelled or expired again: another job, same settings, gradients reused."""
    with options.service() as client:
        again = client.jobs.retry(job, idempotency_key=idempotency_key)
        if wait:
            finish(client, again.id, max_wait, json=json)
    present(again, json=json)


@app.command()
def delete(
    job: JobId,
    version: Annotated[int | None, typer.Option(help="Only if the job is still at this version.")] = None,
    json: options.Json = False,
) -> None:
    """Delete a job that has ended, with its ranking and its files."""
    with options.service() as client:
        client.jobs.delete(job, version=version)
    if json:
        print_json({"id": job, "deleted": True})
    else:
        note(f"{job} deleted")


@app.command()
def update(
    job: JobId,
    name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    metadata: options.Metadata = None,
    remove: Annotated[list[str] | None, typer.Option(help="KEY of metadata to remove; may be repeated.")] = None,
    priority: Annotated[int | None, typer.Option(min=-100, max=100, help="Higher is served first.")] = None,
    version: Annotated[int | None, typer.Option(help="Only if the job is still at this version.")] = None,
    json: options.Json = False,
) -> None:
    """Change name, metadata or priority of a job."""
    pairs = {**(options.pairs(metadata, "--metadata") or {}), **dict.fromkeys(remove or ())}
    changes = options.without_none(name=name, priority=priority, metadata=pairs or None)
    if not changes:
        options.refuse("name what is to be changed: --name, --metadata, --remove or --priority")
    with options.service() as client:
        present(client.jobs.update(job, version=version, **changes), json=json)
