"""A model whose config.json nobody could use is refused when a job names it, not after five attempts of a worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.services.workers import WorkerMemory
from spice_select.models.architecture import TINY
from tests.fixtures.service import InProcessService, jsonl, sums

GOOD = {**TINY, "architectures": ["Qwen2ForCausalLM"]}
NESTED = b'{"model_type": ' + b"[" * 100_000


@pytest.fixture(scope="module")
def taking(_migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[InProcessService, str]]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "spice.db").write_bytes(_migrated_sqlite.read_bytes())
    url = f"sqlite:///{folder / 'spice.db'}"
    with InProcessService(url, folder / "data", proxy_root=folder) as service:
        yield service, service.push(jsonl(sums(6)))["id"]


def folder_of(parent: Path, config: bytes) -> Path:
    folder = parent / "model"
    folder.mkdir()
    for name, content in (("config.json", config), ("model.safetensors", b"x"), ("tokenizer.json", b"{}")):
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": -64},
        {"hidden_size": 1e400},
        {"hidden_size": "64"},
        {"hidden_size": True},
        {"hidden_size": 10**40},
        {"num_attention_heads": 0},
        {"num_attention_heads": 3},
        {"num_key_value_heads": 7},
        {"num_hidden_layers": [2, None]},
        {"vocab_size": {}},
        {"intermediate_size": 1.5},
        {"max_position_embeddings": -1},
        {"model_type": ["qwen2"]},
        {"architectures": 7},
        {"architectures": {"a": 1}},
        {"architectures": [7]},
    ],
)
def test_settings_that_no_model_has_are_refused_at_once(
    taking: tuple[InProcessService, str], change: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    refused(taking, json.dumps({**GOOD, **change}).encode(), tmp_path_factory)


@pytest.mark.parametrize("config", [NESTED, b"\xff\xfe", b"[]", b"", b'{"model_type": NaN}'])
def test_a_file_that_is_no_object_of_settings_is_refused_at_once(
    taking: tuple[InProcessService, str], config: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    refused(taking, config, tmp_path_factory)


def refused(taking: tuple[InProcessService, str], config: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    service, dataset = taking
    assert service.settings.proxy_root is not None
    folder = folder_of(tmp_path_factory.mktemp("one", numbered=True), config)
    model = folder.rename(service.settings.proxy_root / folder.parent.name)
    body = {"dataset_id": dataset, "budget": {"count": 2}, "proxy": {"model": str(model)}}
    for path in ("/v1/jobs", "/v1/estimates"):
        answer = service.http.post(path, json=body)
        assert answer.status_code == 422, f"{path}: {answer.text}"
        assert answer.json()["code"] in {"unsupported-proxy", "unknown-proxy"}


def test_settings_of_a_model_are_taken(taking: tuple[InProcessService, str], tmp_path: Path) -> None:
    service, dataset = taking
    assert service.settings.proxy_root is not None
    model = folder_of(tmp_path, json.dumps(GOOD).encode()).rename(service.settings.proxy_root / "good")
    body = {"dataset_id": dataset, "budget": {"count": 2}, "proxy": {"model": str(model)}}
    assert service.http.post("/v1/estimates", json=body).status_code == 200


@pytest.mark.parametrize(("fast", "dtype"), [([], "float32"), ([True], "bfloat16"), ([True, False], "float32")])
def test_auto_is_what_every_live_worker_computes_fast(
    taking: tuple[InProcessService, str],
    fast: list[bool],
    dtype: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service, dataset = taking
    assert service.settings.proxy_root is not None
    folder = folder_of(
        tmp_path_factory.mktemp("wide", numbered=True), json.dumps({**GOOD, "hidden_size": 512}).encode()
    )
    model = folder.rename(service.settings.proxy_root / folder.parent.name)
    workers = [WorkerMemory(f"w:{number}", 1 << 40, 1 << 40, is_fast) for number, is_fast in enumerate(fast)]
    monkeypatch.setattr("app.services.jobs.estimates.live_workers", lambda _session: workers)
    body = {"dataset_id": dataset, "budget": {"count": 2}, "proxy": {"model": str(model)}}
    made = service.http.post("/v1/jobs", json=body)
    assert made.status_code == 202, made.text
    assert made.json()["config"]["gradients"]["dtype"] == dtype
