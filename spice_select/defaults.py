"""What a run does about settings that were not given: those of its preset, then each model's own defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from spice_select.config import GradientConfig, RunConfig
from spice_select.method_names import MEASURES
from spice_select.presets import BUILTIN_KEEPS, DEFAULT, NEEDS_TRAINED_PROXY, PRESETS, UNTARGETED, Part, Preset

MEASURED = {
    "embedding": "Gain, conflict and utility are of embeddings, not of gradients: compare them within the method only.",
    "words": "Gain, conflict and utility are of word counts, not of gradients: compare them within this method only.",
}
"""What numbers mean where no gradient was taken."""

Settings = TypeVar("Settings", bound=BaseModel)


def with_preset(config: RunConfig, *, targeted: bool) -> RunConfig:
    """The settings of a run with those of its preset where nothing was given.

    A run that names no preset gets ``recommended``, unless it asks for something that the preset is not about: another
    method than ``spice``, a surrogate of the log-determinant, a scope, or the periodic schedule. ``preset`` None fills
    in nothing. What is measured follows from the method. Applied twice it changes nothing more.

    Args:
        config: What was given; pydantic knows which fields that was.
        targeted: Whether the run has targets, also such as are given beside the settings.
    """
    preset = preset_of(config)
    measure = MEASURES.get(config.selection.method, "gradient")
    if config.gradients.measure != measure:
        gradients = config.gradients.model_copy(update={"measure": measure})
        config = config.model_copy(update={"gradients": gradients})
    if preset is None:
        return config.model_copy(update={"preset": None})
    whole = config.selection.scope.kind == "global" and config.schedule.kind == "offline"
    left_out = {
        "selection": UNTARGETED if targeted else frozenset(),
        "gradients": BUILTIN_KEEPS if config.proxy.model.startswith("builtin:") else frozenset(),
        "screens": (frozenset() if config.has_trained_proxy else NEEDS_TRAINED_PROXY)
        if whole
        else frozenset(PRESETS[preset]["screens"]),
    }
    screens = _filled(config.conditions.screens, preset, "screens", left_out["screens"])
    return config.model_copy(
        update={
            "preset": preset,
            "selection": _filled(config.selection, preset, "selection", left_out["selection"]),
            "gradients": _filled(config.gradients, preset, "gradients", left_out["gradients"]),
            "conditions": config.conditions.model_copy(update={"screens": screens}),
        }
    )


WIDE = 512
"""Hidden size from which a model is large enough for bfloat16 to make it faster."""


def with_dtype(
    gradients: GradientConfig, sizes: Mapping[str, Any] | None, *, is_fast: Callable[[], bool]
) -> GradientConfig:
    """The settings of gradients with ``dtype: auto`` settled; others are returned as they are.

    Args:
        gradients: The settings.
        sizes: Content of the model's ``config.json``; None where it is not known, which counts as wide.
        is_fast: Whether every device that may measure them multiplies faster in bfloat16; asked only where it matters.
    """
    if gradients.dtype != "auto":
        return gradients
    width = WIDE if sizes is None else sizes.get("hidden_size", sizes.get("n_embd", WIDE))
    is_wide = isinstance(width, int) and width >= WIDE
    return gradients.model_copy(update={"dtype": "bfloat16" if is_wide and is_fast() else "float32"})


def preset_of(config: RunConfig) -> Preset | None:
    """The preset that fills in what was not given; None for none.

    Args:
        config: What was given.
    """
    if "preset" in config.model_fields_set:
        return config.preset
    selection = config.selection
    is_usual = selection.method == "spice" and selection.information == "logdet"
    return DEFAULT if is_usual and selection.scope.kind == "global" and config.schedule.kind == "offline" else None


def notes(config: RunConfig) -> list[str]:
    """What a reader should know about what was measured and how the preset was applied.

    Args:
        config: Settings of the run, with those of its preset.
    """
    told = [] if config.gradients.measure == "gradient" else [MEASURED[config.gradients.measure]]
    if config.preset is None or config.has_trained_proxy:
        return told
    reason = (
        "the method bm25 takes no losses."
        if config.selection.method == "bm25"
        else f"{config.proxy.model} was never trained, so its losses say nothing about a row. Name a trained proxy to "
        "have it."
    )
    missing = NEEDS_TRAINED_PROXY & PRESETS[config.preset]["screens"].keys()
    dumped = config.conditions.screens.model_dump()
    return told + [
        f"The screen {name} of the preset {config.preset} was left out: {reason}"
        for name in sorted(missing)
        if dumped[name] is None
    ]


def _filled(settings: Settings, preset: Preset, part: Part, left_out: frozenset[str]) -> Settings:
    given = settings.model_fields_set | left_out
    return settings.model_copy(update={k: v for k, v in PRESETS[preset][part].items() if k not in given})
