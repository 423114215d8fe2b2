"""Settings under a name: they fill in what was not set, everywhere alike, and are recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.api.schemas.jobs import JobCreate
from spice_select.cli import settings
from spice_select.config import (
    Budget,
    Conditions,
    GradientConfig,
    ProxyConfig,
    Quotas,
    RunConfig,
    Screens,
    SelectionConfig,
)
from spice_select.defaults import notes, with_preset
from spice_select.errors import BudgetError, ConfigError
from spice_select.pipeline.run import run
from spice_select.presets import PRESETS
from spice_select.selection.validation import check_screens
from tests.fixtures.commands import Command
from tests.fixtures.results import MadeResult

SCREENS = Screens(near_duplicates=0.8, repeated_responses=3, unrelated_responses=0.05, if_short="keep")
TRAINED = ProxyConfig(model="org/model", revision="0" * 40)


def command_config(**given: Any) -> RunConfig:
    """What the command makes of its options."""
    return settings.run_config("10%", given, {})


def job_config(proxy: ProxyConfig | None = None, **given: Any) -> RunConfig:
    """What a job makes of its body."""
    body = JobCreate.model_validate({"dataset_id": "ds_x", "budget": {"fraction": 0.1}, **given})
    return body.run_config(proxy or ProxyConfig())


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_is_valid_and_the_same_over_http_on_the_command_line_and_in_the_library(name: str) -> None:
    mine = command_config(preset=name, proxy=TRAINED.model_dump())
    assert mine.preset == name
    assert job_config(TRAINED, preset=name) == mine
    bare = RunConfig(selection=SelectionConfig(budget=Budget(fraction=0.1)), proxy=TRAINED, preset=name)  # type: ignore[arg-type]
    assert with_preset(bare, targeted=False) == mine
    found = {"selection": mine.selection, "gradients": mine.gradients, "screens": mine.conditions.screens}
    for part, values in PRESETS[name].items():  # type: ignore[index]
        assert {key: getattr(found[part], key) for key in values} == dict(values)


def test_recommended_is_the_default_everywhere() -> None:
    bare = RunConfig(selection=SelectionConfig(budget=Budget(fraction=0.1)))
    for config in (job_config(), command_config(), with_preset(bare, targeted=False)):
        assert config == job_config(preset="recommended")
        assert (config.selection.matching_weight, config.selection.information_weight) == (1.0, 3.0)
        assert config.conditions.screens == SCREENS
    assert job_config(method="spice") == job_config()
    assert with_preset(job_config(), targeted=False) == job_config()


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "random"},
        {"selection": {"method": "herding"}},
        {"selection": {"information": "diagonal"}},
        {"selection": {"scope": {"kind": "windows", "size": 9}}},
        {"selection": {"scope": {"kind": "windows"}}, "schedule": {"kind": "periodic"}},
        {"preset": None},
    ],
)
def test_what_the_preset_is_not_about_is_taken_as_it_is(asked: dict[str, Any]) -> None:
    config = job_config(**asked)
    assert config.preset is None
    assert config.conditions == Conditions()
    assert config.gradients == GradientConfig()
    assert (config.selection.matching_weight, config.selection.information_weight) == (0.0, 1.0)


def test_what_was_set_stays() -> None:
    asked = {
        "preset": "recommended",
        "method": "fisher",
        "selection": {"matching_weight": 0.0, "scope": {"kind": "windows", "size": 9}},
        "gradients": {"normalize": "none"},
        "seed": 4,
    }
    found = job_config(**asked)
    assert (found.selection.method, found.selection.matching_weight, found.selection.seed) == ("fisher", 0.0, 4)
    assert found.selection.scope.model_dump() == {"kind": "windows", "size": 9, "per_window": None}
    assert (found.gradients.normalize, found.gradients.seed) == ("none", 4)
    assert found.conditions.screens == Screens()


def test_one_setting_changes_nothing_else() -> None:
    plain, found = job_config(), job_config(selection={"conflict_penalty": 0.3}, screens={"min_tokens": 2})
    assert found.preset == "recommended"
    changed = {"conflict_penalty": 0.3}
    assert found.selection == plain.selection.model_copy(update=changed)
    assert found.conditions.screens == plain.conditions.screens.model_copy(update={"min_tokens": 2})
    off = job_config(screens={"near_duplicates": None})
    assert off.conditions.screens.near_duplicates is None
    assert command_config(**settings.nested(settings.JOB_SETTINGS, {"near_duplicates": 0.0})).selection == off.selection


def test_losses_are_looked_at_only_where_the_proxy_was_trained_and_a_note_says_so() -> None:
    plain = job_config()
    assert plain.conditions.screens.loss_outliers is None
    assert "never trained" in notes(plain)[0]
    for config in (job_config(TRAINED), job_config(gradients={"warmup_steps": 5})):
        assert config.conditions.screens == SCREENS.model_copy(update={"loss_outliers": 3.0})
        assert notes(config) == []
    assert notes(job_config(preset="paper")) == notes(job_config(method="random")) == []


def test_no_preset_leaves_the_settings_as_they_are() -> None:
    assert command_config(**settings.nested(settings.JOB_SETTINGS, {"preset": "none"})) == job_config(preset=None)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match="paper and recommended"):
        command_config(preset="best")
    with pytest.raises(ValueError, match="preset"):
        JobCreate.model_validate({"dataset_id": "ds_x", "budget": {"count": 5}, "preset": "best"})


def test_a_run_records_its_preset_and_says_what_it_left_out(
    spice: Command, made: MadeResult, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("preset") / "out"
    printed = spice("run", made.source, "--budget", "5", "-o", out, "--json").json()
    statement = json.loads((out / "provenance.intoto.jsonl").read_text().splitlines()[0])
    config = statement["predicate"]["buildDefinition"]["externalParameters"]["config"]
    assert config["preset"] == "recommended"
    assert config["selection"]["matching_weight"] == PRESETS["recommended"]["selection"]["matching_weight"]
    assert "never trained" in printed["notes"][0]
    assert printed["notes"][0] in (out / "README.md").read_text()
    assert spice("verify", out, "--source", made.source, "--json").json()["ok"]


def test_with_targets_a_preset_leaves_what_is_about_the_pool_out() -> None:
    found = job_config(targets=[{"name": "a", "dataset_id": "ds_y"}])
    assert found.preset == "recommended"
    assert (found.selection.matching_weight, found.selection.information_weight) == (0.0, 1.0)
    assert found.conditions.screens == SCREENS


DUPLICATES = [
    {"instruction": f"Say {n % 4} words about number {n % 4} again", "output": "one two three"} for n in range(12)
]


@pytest.fixture
def repeats(tmp_path: Path) -> Path:
    """Twelve rows, four different ones."""
    source = tmp_path / "repeats.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in DUPLICATES))
    return source


def test_screens_of_a_preset_give_way_to_the_budget_and_asked_for_they_do_not(repeats: Path) -> None:
    def selected(count: int, **given: Any) -> dict[str, Any]:
        return run(repeats, RunConfig(selection=SelectionConfig(budget=Budget(count=count)), **given)).summary

    assert selected(3)["excluded_by_code"] == {"near-duplicate": 8}
    assert selected(6)["selected"] == 6
    assert selected(6)["excluded_by_code"] == {"near-duplicate": 6}
    assert selected(12)["selected"] == 12
    with pytest.raises(BudgetError, match="leave 4 rows"):
        selected(6, conditions=Conditions(screens=Screens(near_duplicates=0.7, if_short="refuse")))
    included = selected(4, conditions=Conditions(must_include=[9]))
    assert (included["selected"], included["excluded_by_code"]) == (4, {"near-duplicate": 7})


def test_rows_that_a_quota_needs_stay(repeats: Path) -> None:
    rows = [{**row, "part": "late" if n > 7 else "early"} for n, row in enumerate(DUPLICATES)]
    repeats.write_text("".join(json.dumps(row) + "\n" for row in rows))
    quotas = Quotas(column="part", floors={"late": 2})
    result = run(repeats, RunConfig(selection=SelectionConfig(budget=Budget(count=4), quotas=quotas)))
    late = [pick for pick in result.ranking if pick.source_row > 7]
    assert (len(late), result.summary["selected"]) == (2, 4)


@pytest.mark.parametrize("given", [{"scope": {"kind": "windows"}}, {"scope": {"kind": "partitioned", "parts": 2}}])
def test_screens_need_the_whole_pool(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="scope global") as refused:
        check_screens(job_config(selection=given, screens={"near_duplicates": 0.7}))
    assert refused.value.errors[0]["pointer"] == "#/screens/near_duplicates"
