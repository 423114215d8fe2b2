"""Samples whose gradient is zero or not finite are listed with a code and never chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import spice_select as ss
from spice_select.errors import EmptyPoolError
from spice_select.pipeline.run import run
from tests.fixtures.dead_proxy import save_dead_proxy
from tests.fixtures.results import jsonl

RECORDS: list[dict[str, Any]] = [{"instruction": f"add {i}", "output": f"{i * 37}"} for i in range(8)]
RECORDS[2] = {"instruction": "say", "output": "nothing"}
RECORDS[5] = {"instruction": "say ~", "output": "12"}
RECORDS[7] = {"instruction": "say", "output": "nothing at all"}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_dead_proxy(tmp_path_factory.mktemp("dead")))


def choose(proxy: str, records: list[dict[str, Any]], folder: Path, **settings: Any) -> Any:
    source = folder / "pool.jsonl"
    source.write_bytes(jsonl(records))
    gradients = ss.GradientConfig(sketch_dim=4, max_length=64, **settings)
    config = ss.RunConfig(
        proxy=ss.ProxyConfig(model=proxy),
        gradients=gradients,
        selection=ss.SelectionConfig(budget=ss.Budget(fraction=1.0)),
    )
    return run(source, config)


@pytest.mark.parametrize("normalize", ["unit", "none"])
@pytest.mark.parametrize("targets", ["linear", "lora"])
def test_they_are_counted_listed_and_never_chosen(proxy: str, tmp_path: Path, normalize: str, targets: str) -> None:
    result = choose(proxy, RECORDS, tmp_path, normalize=normalize, targets=targets)
    assert sorted(row.source_row for row in result.ranking) == [0, 1, 3, 4, 6]
    assert result.summary["excluded_by_code"] == {"gradient-not-finite": 1, "gradient-zero": 2}
    assert (result.summary["excluded"], result.summary["pool"]) == (3, 5)
    assert [(item["row"], item["code"]) for item in result.excluded] == [
        (2, "gradient-zero"), (5, "gradient-not-finite"), (7, "gradient-zero"),
    ]  # fmt: skip


def test_a_pool_of_zero_gradients_is_empty(proxy: str, tmp_path: Path) -> None:
    with pytest.raises(EmptyPoolError, match="all 2 were excluded"):
        choose(proxy, [RECORDS[2], RECORDS[7]], tmp_path)
