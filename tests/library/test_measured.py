"""What a result says of the method it was made with."""

from __future__ import annotations

import pytest

import spice_select as ss
from spice_select.results.measured import finding

TRAINED = ss.ProxyConfig(model="org/model")


def _config(**given: object) -> ss.RunConfig:
    budget = ss.Budget(count=1)
    proxy = given.pop("proxy", TRAINED)
    preset = given.pop("preset", None)
    return ss.RunConfig(proxy=proxy, preset=preset, selection=ss.SelectionConfig(budget=budget, **given))  # type: ignore[arg-type]


def test_the_rule_is_named_with_its_interval() -> None:
    told = finding(_config(), has_targets=True)
    assert told is not None
    assert "rule `matching`" in told
    assert "95 % interval" in told
    other = finding(_config(target_rule="relevance"), has_targets=True)
    assert other is not None
    assert other != told


@pytest.mark.parametrize(
    "config",
    [
        _config(method="k_center"),
        _config(preset=None),
        _config(scope={"kind": "windows"}),
        _config(proxy=ss.ProxyConfig(model="builtin:tiny"), preset="recommended"),
    ],
    ids=["method", "no preset", "windows", "untrained"],
)
def test_nothing_is_claimed_of_what_was_not_trained(config: ss.RunConfig) -> None:
    assert finding(config, has_targets=False) is None


def test_an_untrained_proxy_takes_no_credit_for_a_trained_one() -> None:
    assert finding(_config(proxy=ss.ProxyConfig(model="builtin:tiny")), has_targets=True) is None
