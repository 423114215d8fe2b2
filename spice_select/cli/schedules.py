"""``spice-select schedule``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from spice_select.cli import options
from spice_select.cli.job_targets import job_targets
from spice_select.cli.output import note, print_fields, print_json, print_table
from spice_select.cli.settings import JOB_SETTINGS, with_settings

if TYPE_CHECKING:
    from spice_select.client import Schedule

app = typer.Typer(help="Make jobs at set times, on a pool that grows.", no_args_is_help=True, rich_markup_mode=None)

ScheduleId = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Id of a schedule (sch_...).")]


@app.command()
@with_settings("settings", JOB_SETTINGS)
def add(
    name: Annotated[str, typer.Argument(help="Name for people; the jobs have it too.")],
    cron: Annotated[
        str, typer.Option(help="Minute, hour, day of month, month, day of week: '0 2 * * *' is two each night.")
    ],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Id of a data set: the first version of the pool.")],
    budget: options.BudgetOption,
    settings: dict[str, Any],
    timezone: Annotated[str, typer.Option(help="Where that time is meant, such as Europe/Berlin.")] = "UTC",
    extends: Annotated[
        bool, typer.Option("--extends", help="Each job selects what adds most to the selection of the one before.")
    ] = False,
    target: options.JobTarget = None,
    target_weight: options.TargetWeight = None,
    max_wait: options.MaxWait = None,
    json: options.Json = False,
) -> None:
    """Make a job at set times, on the newest version of a data set; not when that has not changed."""
    with options.service() as client:
        targets = job_targets(client, target, target_weight, max_wait, quiet=json)
        made = client.schedules.create(
            name,
            cron,
            dataset,
            budget,
            timezone=timezone,
            extends_previous=extends,
            **settings,
            **({"targets": targets} if targets else {}),
        )
    _show(made, json)


@app.command("list")
def list_schedules(json: options.Json = False) -> None:
    """List the schedules, newest first."""
    with options.service() as client:
        schedules = list(client.schedules.list())
    if json:
        print_json({"data": schedules})
        return
    rows = [
        (one.id, one.name, one.cron, one.timezone, "paused" if one.paused else one.next_fire_at, one.last_outcome)
        for one in schedules
    ]
    print_table(["SCHEDULE", "NAME", "CRON", "ZONE", "NEXT", "LAST"], rows)


@app.command()
def show(schedule: ScheduleId, json: options.Json = False) -> None:
    """Show a schedule, and how its last time went."""
    with options.service() as client:
        _show(client.schedules.get(schedule), json)


@app.command()
def pause(schedule: ScheduleId, json: options.Json = False) -> None:
    """Make no job until the schedule is resumed."""
    with options.service() as client:
        _show(client.schedules.update(schedule, paused=True), json)


@app.command()
def resume(schedule: ScheduleId, json: options.Json = False) -> None:
    """Go on; what was missed meanwhile is not made up for."""
    with options.service() as client:
        _show(client.schedules.update(schedule, paused=False), json)


@app.command()
def remove(schedule: ScheduleId, json: options.Json = False) -> None:
    """Delete a schedule; its jobs stay."""
    with options.service() as client:
        client.schedules.delete(schedule)
    if json:
        print_json({"id": schedule, "deleted": True})
    else:
        note(f"{schedule} deleted")


def _show(schedule: Schedule, json: bool) -> None:
    if json:
        print_json(schedule)
        return
    print_fields(
        {
            "schedule": schedule.id,
            "name": schedule.name,
            "when": f"{schedule.cron} ({schedule.timezone})",
            "next": "paused" if schedule.paused else schedule.next_fire_at,
            "last": schedule.last_fire_at,
            "outcome": schedule.last_outcome,
            "reason": schedule.last_detail,
            "job": schedule.last_job_id,
        }
    )
