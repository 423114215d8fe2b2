"""What the commands print: results on standard output, everything about the way there on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from pydantic import BaseModel

from spice_select.errors import ClientError, SpiceError
from spice_select.results.reported import in_words, mix_in_words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from spice_select.client import Dataset, Evaluation, Event, Job, LogLine, Problem, QueuePosition


class Exit(IntEnum):
    """Exit statuses."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    WAIT_TIMED_OUT = 4
    DETACHED = 130


def out() -> Console:
    """Standard output."""
    from rich.console import Console  # Imported late, for the time that --help takes.

    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """Standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def styled(text: str, style: str = "") -> Text:
    """Text that is printed as it is, brackets too."""
    from rich.text import Text

    return Text(text, style=style)


def money(cost: Mapping[str, Any] | None) -> str | None:
    """The cost of an estimate, or None."""
    return None if cost is None else f"{cost['amount']:.6g} {cost['currency']} at {cost['per_hour']:g} an hour"


def note(text: str) -> None:
    """A line for a person, beside the result."""
    err().print(styled(text))


def print_json(value: Any) -> None:
    """The result as JSON on one line."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def plain(value: Any) -> Any:
    """Answers of the service as plain JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Rows under a header; in a pipe nothing is cut off or filled up."""
    from rich.cells import cell_len

    lines = [[shown(value) for value in row] for row in [columns, *rows]]
    widths = [max(cell_len(line[place]) for line in lines) for place in range(len(columns))]
    for number, line in enumerate(lines):
        cells = (cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
        out().print(styled("  ".join(cells).rstrip(), style="bold" if number == 0 else ""))


def print_fields(fields: Mapping[str, Any]) -> None:
    """Names and values, one a line, without those that have none."""
    present = {name: shown(value) for name, value in fields.items() if value not in (None, {}, [])}
    width = max((len(name) for name in present), default=0)
    for name, value in present.items():
        out().print(styled(f"{name:<{width}}  ", style="bold").append(value, style="not bold"))


def shown(value: Any) -> str:
    """A value for a person."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    if isinstance(value, float):
        return format(value, ".4g")
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shown(item)}" for key, item in value.items())
    return str(value)


def size(count: int | None) -> str:
    """Bytes for a person."""
    if count is None:
        return "-"
    amount, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def print_dataset(dataset: Dataset) -> None:
    """A data set for a person."""
    print_fields(
        {
            "data set": dataset.id,
            "name": dataset.name,
            "status": dataset.status,
            "records": f"{dataset.format} in {dataset.container}" if dataset.format else None,
            "columns": dataset.columns,
            "appended to": dataset.appended_to,
            "size": size(dataset.bytes),
            "sha256": dataset.digest.sha256 if dataset.digest else None,
            "rows": dataset.num_rows,
            "usable": dataset.num_usable,
            "rejected": dataset.rejected or None,
            "created": dataset.created_at,
            "metadata": dataset.metadata,
        }
    )
    for warning in dataset.warnings or []:
        note(f"note: {warning}")


def print_job(job: Job) -> None:
    """A job for a person."""
    result = job.result
    fields: dict[str, Any] = {
        "job": job.id,
        "name": job.name,
        "status": f"{job.status}{', partial' if job.partial else ''}",
        "phase": job.phase if not job.ended else None,
        "queue": waiting(job.queue) if job.queue is not None else None,
        "priority": job.priority or None,
        "data set": job.dataset_id,
        "created": job.created_at,
        "finished": job.finished_at,
        "metadata": job.metadata,
    }
    if result is not None:
        fields |= {**result_fields(plain(result)), "gradients": "reused" if job.gradients_reused else "computed"}
    print_fields(fields)


def result_fields(result: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a result for a person, of a run on this machine as of a job.

    Args:
        result: The numbers, as JSON values; those that an older service does not tell may be missing.
    """
    certificate, control = result.get("certificate") or {}, result.get("random_control") or {}
    scope, warmup, schedule = result.get("scope"), result.get("warmup"), result.get("schedule")
    at_random = f"; {shown(control['utility'])} at random" if control.get("utility") is not None else ""
    cut, seconds = result.get("truncated"), result.get("seconds") or {}
    return {
        "note": result.get("notice"),
        "notes": " ".join(result.get("notes") or ()) or None,
        "selected": f"{result['selected']} of {result['pool']} rows",
        "excluded": counted(result.get("excluded_by_code") or {}),
        "cut": f"{cut} of {result['pool']} rows, longer than max_length: their ends were not measured" if cut else None,
        "targets": targets_in_words(result.get("targets")),
        "tokens": f"{result['tokens_selected']} of {result['tokens_pool']}",
        "utility": f"{shown(result['utility'])} nats{at_random}",
        "gain": f"{shown(result['first_gain'])} nats first, {shown(result['last_gain'])} last",
        "mean conflict": result["mean_conflict"],
        "proven": f"at least {100 * certificate['ratio']:.1f} % of the highest utility possible; says nothing of noise"
        if certificate.get("ratio") is not None
        else None,
        "mix": mix_in_words(result.get("composition"), result["selected"], result["pool"]) or None,
        "protected": in_words(result.get("protected") or ()) or None,
        "lost by the scope": f"{100 * scope['loss']:.2f} % on a sample of {scope['sample']}" if scope else None,
        "warmed up": f"{warmup['steps']} steps, {warmup['tokens']} tokens" if warmup else None,
        "schedule": f"periodic, {schedule['windows_done']} of {schedule['windows']} windows, {schedule['steps']} steps"
        if schedule
        else None,
        "ended because": result["stop_reason"],
        "seconds": {name: value for name, value in seconds.items() if value is not None},
    }


def targets_in_words(targets: Mapping[str, Any] | None) -> str | None:
    """What was selected for each target, and whether it is nearer to them than the pool; None without targets."""
    if not targets:
        return None
    sets = ", ".join(f"{one['selected']} for {one['name']} ({one['rows']} target rows)" for one in targets["sets"])
    relevance = targets.get("relevance")
    if relevance is None:
        return sets
    return f"{sets}; relevance {shown(relevance['selected'])} on average, {shown(relevance['pool'])} over the pool"


def counted(codes: Mapping[str, int]) -> str | None:
    """How many rows there are of each code, the most first; None where there are none."""
    if not codes:
        return None
    parts = ", ".join(f"{count} {code}" for code, count in sorted(codes.items(), key=lambda item: (-item[1], item[0])))
    total = sum(codes.values())
    return f"{total} {'row' if total == 1 else 'rows'}: {parts}"


def waiting(place: QueuePosition) -> str:
    """Where a job stands, and why and for how long it waits, for a person."""
    parts = [f"position {place.position}", place.reason]
    if place.estimated_start_at is not None:
        parts.append(f"starts {_away((place.estimated_start_at - datetime.now(UTC)).total_seconds())}")
    return ", ".join(part for part in parts if part)


def _away(seconds: float) -> str:
    if seconds < 1:
        return "any moment"
    if seconds < 90:
        return f"in about {seconds:.0f} s"
    return f"in about {seconds / 60:.0f} min" if seconds < 5400 else f"in about {seconds / 3600:.1f} h"


def print_event(event: Event) -> None:
    """A line of history for a person."""
    out().print(
        styled(f"{shown(event.created_at)}  {event.type:<22}  {shown(event.data) if event.data else ''}".rstrip())
    )


def print_log_line(line: LogLine) -> None:
    """A line of the log of a job for a person."""
    unit = f"{line.unit_kind} {line.shard}" if line.shard is not None else str(line.unit_kind)
    text = f"{shown(line.created_at)}  {line.level:<7}  {unit:<14}  {line.message}  ({line.worker or '-'})"
    out().print(styled(text))


def print_problem(problem: Problem, what: str) -> None:
    """A stored error, as ``print_error`` prints one that was raised."""
    _error_lines(
        f"{what}: {problem.detail or problem.title or 'no reason given'}",
        problem.code,
        problem.request_id,
        [finding.model_dump() for finding in problem.errors],
        problem.reasons or {},
    )


def print_error(error: SpiceError) -> None:
    """One line that says what is wrong, and one for each finding that has a place."""
    request_id = error.request_id if isinstance(error, ClientError) else None
    _error_lines(error.detail, error.code, request_id, error.errors, error.reasons)


def _error_lines(
    detail: str,
    code: str | None,
    request_id: str | None,
    findings: list[dict[str, Any]],
    reasons: Mapping[str, int],
) -> None:
    tail = ", ".join(part for part in (code, f"request {request_id}" if request_id else None) if part)
    note(f"error: {detail}" + (f" ({tail})" if tail else ""))
    for reason, count in reasons.items():
        note(f"  {count} rows: {reason}")
    for finding in findings:
        pointer, said = finding.get("pointer"), finding.get("detail")
        if said != detail:
            note(f"  {pointer or '-'}  {said}")
        elif pointer:
            note(f"  at {pointer}")


def error_json(error: SpiceError) -> dict[str, Any]:
    """An error as the object that ``--json`` prints."""
    body: dict[str, Any] = {
        "code": error.code,
        "detail": error.detail,
        "retryable": error.retryable,
        "errors": error.errors,
        **({"reasons": dict(error.reasons)} if error.reasons else {}),
    }
    if isinstance(error, ClientError):
        body |= {"status": error.status, "request_id": error.request_id}
    return {"error": body}


def leave(status: Exit) -> NoReturn:
    """End the command with this status.

    Args:
        status: The status.

    Raises:
        Exit: Always.
    """
    raise typer.Exit(status)


def leave_detached(what: str, command: str) -> NoReturn:
    """Ctrl-C has ended the waiting, not the work: say how to come back, and end the command."""
    note(f"\ndetached; {what} goes on. Come back with: {command}")
    leave(Exit.DETACHED)


def exit_of(work: Job | Evaluation) -> Exit:
    """Exit status for how a job or an evaluation ended."""
    if work.status == "succeeded":
        return Exit.DONE
    return Exit.CANCELLED if work.status in {"cancelled", "expired"} else Exit.FAILED
