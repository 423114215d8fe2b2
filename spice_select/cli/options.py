"""Options that several commands share, and what they become in a job or a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeAlias, TypeVar, cast, get_args

import typer
from pydantic import ValidationError

from spice_select.client import Client, parse_budget
from spice_select.client.filters import ListFilters
from spice_select.config import Conditions, GradientConfig, Model, ProxyConfig, RunConfig, SelectionConfig
from spice_select.config import Method as MethodName
from spice_select.errors import ConfigError
from spice_select.presets import PRESETS, Preset, filled

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]
BudgetOption: TypeAlias = Annotated[
    str, typer.Option("--budget", "-b", help='How much to choose: "10%", "100" samples or "50000 tokens".')
]
SourceFile: TypeAlias = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="JSON Lines, JSON, CSV or Parquet, or gzip.")
]
Format: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Record form: messages, sharegpt, alpaca, prompt_completion, question_answer or text; else it is found."
    ),
]
Column: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--column", help="ROLE=NAME for a column under an unusual name; may be repeated.", metavar="ROLE=NAME"
    ),
]
Metadata: TypeAlias = Annotated[
    list[str] | None, typer.Option("--metadata", help="KEY=VALUE of your own; may be repeated.", metavar="KEY=VALUE")
]
OnlyMetadata: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--metadata", help="Only with this pair; may be repeated, all must hold.", metavar="KEY=VALUE"),
]
CreatedAfter: TypeAlias = Annotated[
    str | None,
    typer.Option("--created-after", help="Only made then or later: 2026-11-01, or 2026-11-01T08:00Z.", metavar="TIME"),
]
CreatedBefore: TypeAlias = Annotated[
    str | None, typer.Option("--created-before", help="Only made before then.", metavar="TIME")
]
MaxWait: TypeAlias = Annotated[
    float | None,
    typer.Option("--max-wait", min=0, help="Longest wait in seconds; then status 4, and the work goes on."),
]
Deadline: TypeAlias = Annotated[
    float | None, typer.Option(min=0, help="Seconds after which it ends; what was chosen by then is kept.")
]
MustInclude: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--must-include",
        help="Rows of the source (from 0) that are chosen first: 3,17,40-49; may be repeated.",
        metavar="ROWS",
    ),
]
Exclude: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="Rows of the source (from 0) that are never chosen.", metavar="ROWS"),
]
PresetName: TypeAlias = Annotated[
    str | None,
    typer.Option("--preset", help=f"Settings for what is not set otherwise: {', '.join(PRESETS)}."),
]
Method: TypeAlias = Annotated[str | None, typer.Option(help=f"{', '.join(get_args(MethodName))}.")]
Proxy: TypeAlias = Annotated[str | None, typer.Option(help="Proxy model: builtin:tiny, a hub id or a local folder.")]
Revision: TypeAlias = Annotated[str | None, typer.Option(help="Commit of the hub model.")]
Alpha: TypeAlias = Annotated[float | None, typer.Option(help="Fisher scale in U(S) = logdet(I + alpha F_S).")]
ConflictPenalty: TypeAlias = Annotated[float | None, typer.Option(help="Weight of the conflict in the score, lambda.")]
MatchingWeight: TypeAlias = Annotated[
    float | None, typer.Option(help="Weight of what the set lacks beside the mean of the pool; 0 leaves it out.")
]
StopRatio: TypeAlias = Annotated[
    float | None, typer.Option(help="Stop when a gain falls to this share of the first, omega.")
]
Information: TypeAlias = Annotated[str | None, typer.Option(help="logdet, diagonal or scalar.")]
Seed: TypeAlias = Annotated[int | None, typer.Option(help="Seed of the projections and of methods that draw.")]
Targets: TypeAlias = Annotated[str | None, typer.Option(help="Measured weights: linear or lora.")]
SketchDim: TypeAlias = Annotated[int | None, typer.Option(help="Numbers kept per layer.")]
Loss: TypeAlias = Annotated[str | None, typer.Option(help="Loss of a sample: mean or sum over its response tokens.")]
Normalize: TypeAlias = Annotated[str | None, typer.Option(help="unit or none.")]
ScheduleKind: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--schedule", help="offline: all gradients first; periodic: window, choice, now and then a step, next window."
    ),
]
StepsEvery: TypeAlias = Annotated[
    int | None, typer.Option(min=0, help="Windows between two steps of the periodic schedule; 0 takes none.")
]
WindowSize: TypeAlias = Annotated[
    int | None, typer.Option(help="Choose from windows of so many samples, each by itself; periodic takes 128.")
]
WarmupSteps: TypeAlias = Annotated[
    int | None, typer.Option(help="Optimiser steps on a sample of the pool before the gradients are taken.")
]
TunedWeights: TypeAlias = Annotated[str | None, typer.Option(help="What a step tunes: lora (adapters) or full.")]
LearningRate: TypeAlias = Annotated[float | None, typer.Option(help="Learning rate of the steps.")]
StepTokens: TypeAlias = Annotated[int | None, typer.Option(help="Tokens in a step of the warm-up.")]
StoreDtype: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Type in which gradients are kept: float32; float16 or bfloat16 in half the room."),
]
BatchTokens: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--batch-tokens",
        help="Most padded tokens of a batch; auto: as many as fit the memory that is free, settled once and recorded.",
        metavar="NUMBER|auto",
    ),
]
MaxLength: TypeAlias = Annotated[int | None, typer.Option(help="Longest sequence in tokens.")]


Settings = TypeVar("Settings", bound=Model)


def refuse(detail: str) -> NoReturn:
    """End the command as misused.

    Args:
        detail: What is wrong with what was given.

    Raises:
        ConfigError: Always.
    """
    raise ConfigError(detail)


def pairs(given: Sequence[str] | None, option: str) -> dict[str, str] | None:
    """``NAME=VALUE`` options as a mapping.

    Args:
        given: The options.
        option: Their name, for the message.

    Raises:
        ConfigError: One has no ``=``.
    """
    found = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"{option} {text!r}: write NAME=VALUE")
        found[name] = value
    return found or None


def moment(given: str | None, option: str) -> datetime | None:
    """A time as it was typed; without a zone it is this machine's.

    Args:
        given: The option.
        option: Its name, for the message.

    Raises:
        ConfigError: It is no time.
    """
    if given is None:
        return None
    try:
        return datetime.fromisoformat(given).astimezone()
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(f"{option} {given!r}: write 2026-11-01 or 2026-11-01T08:00+01:00") from error


def narrowed(metadata: Sequence[str] | None, created_after: str | None, created_before: str | None) -> ListFilters:
    """The options that narrow a list down, as the client takes them."""
    return {
        "metadata": pairs(metadata, "--metadata"),
        "created_after": moment(created_after, "--created-after"),
        "created_before": moment(created_before, "--created-before"),
    }


def rows(given: Sequence[str] | None, option: str) -> list[int] | None:
    """Rows of the source, written as ``3,17,40-49``.

    Args:
        given: The options.
        option: Their name, for the message.

    Raises:
        ConfigError: One is no row and no range of rows.
    """
    found: list[int] = []
    for part in ",".join(given or ()).split(","):
        first, dash, last = part.strip().partition("-")
        if not part.strip():
            continue
        if not (first.isdecimal() and (not dash or (last.isdecimal() and int(first) <= int(last)))):
            raise ConfigError(f"{option} {part!r}: write rows as 3,17,40-49")
        found += range(int(first), int(last or first) + 1)
    return found or None


def without_none(**given: Any) -> dict[str, Any]:
    """Only what was given, so that the defaults of the other side hold."""
    return {name: value for name, value in given.items() if value is not None}


def gradient_settings(
    *,
    tuned_weights: str | None = None,
    learning_rate: float | None = None,
    step_tokens: int | None = None,
    batch_tokens: str | None = None,
    **given: Any,
) -> dict[str, Any]:
    """The ``gradients`` of a job: what was given, how the proxy is tuned among it.

    Raises:
        ConfigError: ``batch_tokens`` that is neither a number nor ``auto``.
    """
    if batch_tokens is not None and batch_tokens != "auto" and not batch_tokens.isdecimal():
        raise ConfigError(f"--batch-tokens {batch_tokens!r}: give a number or auto", pointer="#/gradients/batch_tokens")
    tuning = without_none(weights=tuned_weights, learning_rate=learning_rate, step_tokens=step_tokens)
    most = int(batch_tokens) if batch_tokens is not None and batch_tokens != "auto" else batch_tokens
    return without_none(**given, batch_tokens=most, tuning=tuning or None)


def schedule_settings(schedule: str | None, steps_every: int | None) -> dict[str, Any] | None:
    """The ``schedule`` of a job.

    Raises:
        ConfigError: Steps for a schedule that takes none.
    """
    if steps_every is not None and schedule != "periodic":
        raise ConfigError("--steps-every needs --schedule periodic", pointer="#/schedule")
    if schedule is None:
        return None
    every = {} if steps_every is None else {"steps_every": steps_every or None}
    return {"kind": schedule, **every}


def scope_settings(schedule: str | None, window_size: int | None) -> dict[str, Any] | None:
    """The ``scope`` of a selection: windows where they are asked for or needed."""
    if window_size is None and schedule != "periodic":
        return None
    return {"kind": "windows", **without_none(size=window_size)}


def proxy_settings(proxy: str | None, revision: str | None) -> dict[str, Any] | None:
    """The ``proxy`` of a job.

    Raises:
        ConfigError: A revision without a model.
    """
    if revision is not None and proxy is None:
        raise ConfigError("--revision needs --proxy", pointer="#/proxy/revision")
    return without_none(model=proxy, revision=revision) or None


def run_config(
    budget: str,
    selection: Mapping[str, Any],
    gradients: Mapping[str, Any],
    proxy: Mapping[str, Any] | None,
    seed: int | None,
    conditions: Mapping[str, Any],
    preset: str | None = None,
    schedule: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The settings of a run on this machine."""
    name = preset_named(preset)
    seeds = without_none(seed=seed)
    return checked(
        RunConfig,
        {
            "proxy": checked(ProxyConfig, proxy or {}, "proxy"),
            "gradients": checked(GradientConfig, {**filled(name, "gradients", gradients), **seeds}, "gradients"),
            "selection": checked(
                SelectionConfig,
                {**filled(name, "selection", selection), **seeds, "budget": parse_budget(budget)},
                "selection",
            ),
            "conditions": checked(Conditions, conditions, "conditions"),
            "preset": name,
            **without_none(schedule=schedule),
        },
    )


def preset_named(name: str | None) -> Preset | None:
    """The preset of a name.

    Raises:
        ConfigError: There is none.
    """
    if name is None or name in PRESETS:
        return cast("Preset | None", name)
    raise ConfigError(f"no preset {name!r}; there is {' and '.join(PRESETS)}", pointer="#/preset")


def checked(model: type[Settings], values: Mapping[str, Any], where: str = "") -> Settings:
    """A settings model.

    Raises:
        ConfigError: A value that it refuses, with a pointer to each.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        findings = [
            {
                "detail": item["msg"],
                "pointer": "/".join(["#", *([where] if where else []), *(str(part) for part in item["loc"])]),
            }
            for item in error.errors()
        ]
        raise ConfigError(f"{findings[0]['pointer']}: {findings[0]['detail']}", errors=findings) from error


def service() -> Client:
    """The service that the environment names."""
    return Client()
