"""Options for the settings of a job or a run: which there are, and what was set becomes the body of a job.

The type of an option is that of its field in the settings models; whether a value is allowed, the models say.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, NamedTuple, TypeVar, cast, get_args, get_origin

import typer
from pydantic import ValidationError

from spice_select.config import (
    Conditions,
    GradientConfig,
    Method,
    Model,
    ProxyConfig,
    RunConfig,
    SelectionConfig,
)
from spice_select.defaults import with_preset
from spice_select.errors import ConfigError
from spice_select.evaluation.settings import EvaluationConfig
from spice_select.presets import DEFAULT, PRESETS, Preset

Settings = TypeVar("Settings", bound=Model)


class Setting(NamedTuple):
    """One option.

    Attributes:
        path: Where it belongs in the settings of a job, joined by dots.
        help: For people.
    """

    path: str
    help: str


NO_PRESET = "none"
"""What ``--preset`` takes for no preset at all."""
OFF_AT_ZERO = ("steps_every", "loss_outliers", "near_duplicates", "repeated_responses", "unrelated_responses")
"""Options that switch what they set off at 0."""
JOB_SETTINGS = {
    "preset": Setting(
        "preset",
        f"Settings for what is not set otherwise: {', '.join(PRESETS)}, or {NO_PRESET}. Left out, it is {DEFAULT} for "
        "the method spice on a whole pool.",
    ),
    "method": Setting("method", f"{', '.join(get_args(Method))}."),
    "proxy": Setting("proxy.model", "Proxy model: builtin:tiny, a hub id, a local folder or a GGUF file."),
    "revision": Setting("proxy.revision", "Commit of the hub model."),
    "adapter": Setting("proxy.adapter", "Local folder with a LoRA adapter that is merged into the proxy model."),
    "alpha": Setting("selection.alpha", "Fisher scale in U(S) = logdet(I + alpha F_S)."),
    "conflict_penalty": Setting("selection.conflict_penalty", "Weight of the conflict in the score, lambda."),
    "matching_weight": Setting(
        "selection.matching_weight", "Weight of what the set lacks compared with the mean of the pool; 0 leaves it out."
    ),
    "target_rule": Setting("selection.target_rule", "What a row is worth for a target: matching or relevance."),
    "relevance_weight": Setting("selection.relevance_weight", "With targets: weight of that in the score, w."),
    "information_weight": Setting("selection.information_weight", "Weight of the gain in the score, eta."),
    "whitening_damping": Setting(
        "selection.whitening_damping", "With targets: damping of the whitening, as a share of the mean eigenvalue."
    ),
    "whitening_rows": Setting(
        "selection.whitening_rows", "Whiten by so many first rows: those of the version before rows were appended."
    ),
    "protect_weight": Setting(
        "selection.protect_weight", "What a row pays for each protected set that its gradient points against."
    ),
    "span": Setting("selection.span", "With targets: select in the space that the target rows span."),
    "prefilter_method": Setting(
        "prefilter.method", "With targets: rank the pool by bm25 or embedding first; only the best rows get gradients."
    ),
    "prefilter_keep": Setting("prefilter.keep", "Share of the rows that the prefilter keeps, such as 0.2."),
    "loss_outliers": Setting(
        "screens.loss_outliers",
        "Take rows out whose loss is above the median by so many scaled deviations, such as 3; 0 is off.",
    ),
    "near_duplicates": Setting(
        "screens.near_duplicates", "Take rows out that are as similar as this to an earlier one, such as 0.7; 0 is off."
    ),
    "repeated_responses": Setting(
        "screens.repeated_responses",
        "Take rows out whose response so many prompts with nothing in common have, such as 3; 0 is off.",
    ),
    "unrelated_responses": Setting(
        "screens.unrelated_responses",
        "Take rows out whose response has as much in common with more than this share of other prompts as with its "
        "own, such as 0.05; 0 is off.",
    ),
    "min_tokens": Setting("screens.min_tokens", "Take rows with fewer tokens out."),
    "max_tokens": Setting("screens.max_tokens", "Take rows with more tokens out."),
    "stop_ratio": Setting("selection.stop_ratio", "Stop when a gain falls to this share of the first, omega."),
    "information": Setting("selection.information", "logdet, diagonal or scalar."),
    "seed": Setting("seed", "Seed of the projections and of methods that draw."),
    "targets": Setting("gradients.targets", "Measured weights: linear or lora."),
    "layers": Setting("gradients.layers", "Whose layers: all blocks, or last_half of them in half the time."),
    "sketch_dim": Setting("gradients.sketch_dim", "Numbers kept per layer."),
    "objective": Setting(
        "gradients.objective",
        "What training would minimise: sft; of preference data sft_chosen (learn the chosen answer) or dpo.",
    ),
    "dpo_beta": Setting("gradients.dpo_beta", "With dpo: weight of the log-likelihood ratios, beta."),
    "loss": Setting("gradients.loss", "Loss of a sample: mean or sum over its response tokens."),
    "normalize": Setting("gradients.normalize", "unit or none."),
    "max_length": Setting("gradients.max_length", "Longest sequence in tokens."),
    "batch_tokens": Setting(
        "gradients.batch_tokens", "Most padded tokens of a batch, which is halved where memory is short."
    ),
    "dtype": Setting(
        "gradients.dtype", "Arithmetic of the model: auto (bfloat16 where it is faster), float32, bfloat16 or float64."
    ),
    "store_dtype": Setting(
        "gradients.store_dtype",
        "Type in which gradients are kept: float32; float16 or bfloat16 take half the space.",
    ),
    "schedule": Setting(
        "schedule.kind",
        "offline: all gradients first; periodic: measure a window, select from it, now and then take a step, repeat.",
    ),
    "steps_every": Setting("schedule.steps_every", "Windows between two steps of the periodic schedule; 0 takes none."),
    "window_size": Setting(
        "selection.scope.size", "Select from windows of so many samples, each by itself; periodic takes 128."
    ),
    "warmup_steps": Setting(
        "gradients.warmup_steps", "Optimiser steps on a sample of the pool before the gradients are taken."
    ),
    "tuned_weights": Setting("gradients.tuning.weights", "What a step tunes: lora (adapters) or full."),
    "learning_rate": Setting("gradients.tuning.learning_rate", "Learning rate of the steps."),
    "step_tokens": Setting("gradients.tuning.step_tokens", "Tokens in a step of the warm-up."),
}
EVALUATION_SETTINGS = {
    "tuning": Setting("training.tuning", "full or lora."),
    "match": Setting(
        "training.match", "What is equal in every step: tokens (and so all tokens), or steps of equal rows."
    ),
    "epochs": Setting("training.epochs", "Passes over a selection of average rows."),
    "batch_rows": Setting("training.batch_rows", "Rows in a step."),
    "learning_rate": Setting("training.learning_rate", "Peak learning rate of AdamW."),
    "seeds": Setting("seeds", "Trainings of every arm."),
    "seed": JOB_SETTINGS["seed"],
}


def option_of(setting: Setting) -> Any:
    """Type and option of a setting, as typer reads them: text if its field takes any, else a number or a switch."""
    *parents, field = setting.path.split(".")
    models: list[Any] = [RunConfig, Conditions, SelectionConfig, EvaluationConfig]
    for name in parents:
        models = [part for model in models if name in model.model_fields for part in _parts(model, name)]
    types = {
        type(kind) if isinstance(kind, str) else kind
        for model in models
        if field in getattr(model, "model_fields", ())
        for kind in _parts(model, field)
    }
    kind = next(kind for kind in (str, float, int, bool) if kind in types)
    return Annotated[kind | None, typer.Option(help=setting.help)]


def _parts(model: type[Model], field: str) -> list[Any]:
    """Types and literal values that a field is made of."""
    found: list[Any] = []
    waiting = [model.model_fields[field].annotation]
    while waiting:
        kind = waiting.pop()
        inner = get_args(kind)
        waiting += inner[:1] if get_origin(kind) is Annotated else inner
        found += [kind] if not inner else []
    return found


Command = Callable[..., None]


def with_settings(
    parameter: str, table: Mapping[str, Setting], names: Collection[str] | None = None
) -> Callable[[Command], Command]:
    """Give a command an option for each setting.

    Args:
        parameter: Parameter of the command that the options stand for; it gets those that were set, nested as in the
            settings of a job.
        table: Which there are.
        names: Only these.
    """
    offered = {name: table[name] for name in table if names is None or name in names}

    def decorate(command: Command) -> Command:
        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(command, eval_str=True).parameters.values():
            if own.name != parameter:
                parameters.append(own.replace(kind=inspect.Parameter.KEYWORD_ONLY))
                continue
            parameters += [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option_of(setting))
                for name, setting in offered.items()
            ]

        @functools.wraps(command)
        def called(**values: Any) -> None:
            settings = nested(offered, {name: values.pop(name) for name in offered})
            command(**values, **{parameter: settings})

        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {own.name: own.annotation for own in parameters}
        del called.__wrapped__
        return called

    return decorate


def nested(settings: Mapping[str, Setting], values: Mapping[str, Any]) -> dict[str, Any]:
    """What was set, nested as in the settings of a job.

    Args:
        settings: What there is.
        values: Value by name; None where it was not set.

    Raises:
        ConfigError: An option that needs another one.
    """
    given = {name: value for name, value in values.items() if value is not None}
    for name, needed, only in (("revision", "proxy", None), ("steps_every", "schedule", "periodic")):
        if name in given and (given.get(needed) is None or only not in {None, given[needed]}):
            pointer = "#/proxy/revision" if name == "revision" else "#/schedule"
            wanted = f"--{needed}{f' {only}' if only else ''}"
            raise ConfigError(f"--{name.replace('_', '-')} needs {wanted}", pointer=pointer)
    for name in ("preset", *OFF_AT_ZERO):
        if given.get(name) == (NO_PRESET if name == "preset" else 0):
            given[name] = None
    body: dict[str, Any] = {}
    for name, value in given.items():
        inner = body
        *parents, field = settings[name].path.split(".")
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[field] = value
    if "window_size" in given or given.get("schedule") == "periodic":
        selection = body.setdefault("selection", {})
        selection["scope"] = {"kind": "windows", **selection.get("scope", {})}
    return body


def run_config(
    budget: str, settings: Mapping[str, Any], conditions: Mapping[str, Any], *, targeted: bool = False
) -> RunConfig:
    """The settings of a run on this machine.

    Args:
        budget: How much to select.
        settings: What was set, as ``nested`` returns it.
        conditions: Rows to include and to exclude.
        targeted: Whether there are targets.
    """
    from spice_select.client.budget import parse_budget

    def only(*names: str) -> dict[str, Any]:
        return {name: settings[name] for name in names if name in settings}

    gradients = {**settings.get("gradients", {}), **only("seed")}
    selection = {**settings.get("selection", {}), **only("seed", "method")}
    if settings.get("preset") is not None:
        preset_named(settings["preset"])
    config = checked(
        RunConfig,
        {
            "proxy": checked(ProxyConfig, settings.get("proxy", {}), "proxy"),
            "gradients": checked(GradientConfig, gradients, "gradients"),
            "selection": checked(SelectionConfig, {**selection, "budget": parse_budget(budget)}, "selection"),
            "conditions": checked(Conditions, {**conditions, **only("screens", "prefilter")}, "conditions"),
            **only("schedule", "preset"),
        },
    )
    return with_preset(config, targeted=targeted)


def preset_named(name: str) -> Preset:
    """The preset of a name.

    Raises:
        ConfigError: It does not exist.
    """
    if name in PRESETS:
        return cast("Preset", name)
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
