"""Settings under a name: they fill in what was not set, everywhere alike, and are recorded."""

from __future__ import annotations

import json

import pytest

from app.api.schemas.jobs import JobCreate
from spice_select.cli import settings
from spice_select.config import Budget, GradientConfig, RunConfig, SelectionConfig, SelectionOptions
from spice_select.errors import ConfigError
from spice_select.presets import PRESETS
from tests.fixtures.commands import Command
from tests.fixtures.results import MadeResult


def run_config(preset: str | None, **selection: object) -> RunConfig:
    """What the command makes of its options."""
    return settings.run_config("10%", {"preset": preset, "selection": selection}, {})


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_is_valid_and_the_same_over_http_and_on_the_command_line(name: str) -> None:
    body = JobCreate.model_validate({"dataset_id": "ds_x", "budget": {"fraction": 0.1}, "preset": name})
    mine = run_config(name)
    assert mine.preset == name
    assert body.selection_config() == mine.selection
    assert body.gradient_config() == mine.gradients
    for part, values in PRESETS[name].items():  # type: ignore[index]
        model = mine.selection if part == "selection" else mine.gradients
        assert {key: getattr(model, key) for key in values} == dict(values)


def test_what_was_set_stays() -> None:
    body = JobCreate.model_validate(
        {
            "dataset_id": "ds_x",
            "budget": {"count": 5},
            "preset": "recommended",
            "method": "fisher",
            "selection": {"matching_weight": 0.0, "scope": {"kind": "windows", "size": 9}},
            "gradients": {"normalize": "none"},
            "seed": 4,
        }
    )
    found = body.selection_config()
    assert (found.method, found.matching_weight, found.seed) == ("fisher", 0.0, 4)
    assert found.scope.model_dump() == {"kind": "windows", "size": 9, "per_window": None}
    assert (body.gradient_config().normalize, body.gradient_config().seed) == ("none", 4)
    assert run_config("recommended", matching_weight=1).selection.matching_weight == 1


def test_without_a_preset_the_defaults_hold() -> None:
    body = JobCreate.model_validate({"dataset_id": "ds_x", "budget": {"count": 5}})
    assert body.selection_config() == SelectionConfig(budget=Budget(count=5), **SelectionOptions().model_dump())
    assert body.gradient_config() == GradientConfig()
    assert run_config(None).preset is None


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match="paper and recommended"):
        run_config("best")
    with pytest.raises(ValueError, match="preset"):
        JobCreate.model_validate({"dataset_id": "ds_x", "budget": {"count": 5}, "preset": "best"})


def test_a_run_records_its_preset(spice: Command, made: MadeResult, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("preset") / "out"
    spice("run", made.source, "--budget", "5", "--preset", "recommended", "-o", out, "--json").json()
    statement = json.loads((out / "provenance.intoto.jsonl").read_text().splitlines()[0])
    config = statement["predicate"]["buildDefinition"]["externalParameters"]["config"]
    assert config["preset"] == "recommended"
    assert config["selection"]["matching_weight"] == PRESETS["recommended"]["selection"]["matching_weight"]
    assert spice("verify", out, "--source", made.source, "--json").json()["ok"]


def test_with_targets_a_preset_leaves_the_matching_of_the_pool_out() -> None:
    asked = {"dataset_id": "ds_x", "budget": {"count": 5}, "preset": "recommended"}
    targets = [{"name": "a", "dataset_id": "ds_y"}]
    assert JobCreate.model_validate(asked).selection_config().matching_weight > 0
    assert not JobCreate.model_validate({**asked, "targets": targets}).selection_config().matching_weight
