"""Options made from the settings models: their types, and the body that comes of them."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from spice_select.cli.settings import EVALUATION_SETTINGS, JOB_SETTINGS, nested, option_of, run_config
from spice_select.errors import ConfigError
from spice_select.evaluation.settings import EvaluationConfig


def kind(name: str, table: dict[str, Any] = JOB_SETTINGS) -> type:
    return get_args(get_args(option_of(table[name]))[0])[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("alpha", float), ("sketch_dim", int), ("steps_every", int), ("window_size", int), ("method", str), ("seed", int)],
)
def test_an_option_has_the_type_of_its_field(name: str, expected: type) -> None:
    assert kind(name) is expected


def test_every_option_belongs_to_a_field() -> None:
    assert {kind(name) for name in JOB_SETTINGS} == {str, int, float, bool}
    assert [kind(name, EVALUATION_SETTINGS) for name in ("tuning", "epochs", "seeds")] == [str, float, int]


def test_what_was_set_becomes_the_body_of_a_job() -> None:
    body = nested(
        JOB_SETTINGS,
        {
            "alpha": 2.0, "method": "fisher", "proxy": "org/name", "revision": "abc", "schedule": "periodic",
            "steps_every": 0, "window_size": 64, "learning_rate": 0.1, "batch_tokens": 512, "loss": None, "seed": 0,
        },
    )  # fmt: skip
    assert body == {
        "method": "fisher",
        "proxy": {"model": "org/name", "revision": "abc"},
        "seed": 0,
        "selection": {"alpha": 2.0, "scope": {"kind": "windows", "size": 64}},
        "gradients": {"batch_tokens": 512, "tuning": {"learning_rate": 0.1}},
        "schedule": {"kind": "periodic", "steps_every": None},
    }
    config = run_config("10%", body, {"exclude": [3]})
    assert (config.selection.method, config.selection.alpha, config.conditions.exclude) == ("fisher", 2.0, [3])


def test_a_run_takes_its_seed_and_its_preset_everywhere() -> None:
    config = run_config("5", nested(JOB_SETTINGS, {"preset": "recommended", "seed": 7, "alpha": 3.0}), {})
    assert (config.gradients.seed, config.selection.seed) == (7, 7)
    assert (config.selection.matching_weight, config.selection.alpha) == (1.0, 3.0)


def test_settings_of_an_evaluation_fit_its_model() -> None:
    body = nested(EVALUATION_SETTINGS, {"tuning": "lora", "epochs": 1, "seeds": 4})
    assert EvaluationConfig.model_validate(body).model_dump()["training"]["tuning"] == "lora"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"revision": "abc"}, "--revision needs --proxy"),
        ({"steps_every": 3}, "--steps-every needs --schedule periodic"),
        ({"steps_every": 3, "schedule": "offline"}, "--steps-every needs --schedule periodic"),
    ],
)
def test_an_option_that_cannot_stand_alone_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        nested(JOB_SETTINGS, given)
