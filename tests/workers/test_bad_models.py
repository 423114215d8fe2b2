"""The bad input of the gradient engine in one table: what the library raises, and what the service says and when.

The service looks at the files of a model before it takes a job; what only loading shows ends the job with the same
code and pointer. After each the same worker does the next job.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM, Qwen3MoeConfig, T5Config

import spice_select as ss
from spice_select.errors import SpiceError
from spice_select.gradients.forward import BatchPass
from spice_select.models.model_files import adapter_digest
from spice_select.models.tiny import build_tiny_model, build_tiny_tokenizer
from spice_select.pipeline.run import run
from spice_select.pipeline.targets import TargetFile
from tests.fixtures.dead_proxy import save_dead_proxy
from tests.fixtures.service import InProcessService, jsonl, sums
from tests.library.families import build

ROWS = jsonl(sums(6))
SETTINGS: dict[str, Any] = {"sketch_dim": 4, "max_length": 128}
MODEL = "#/proxy/model"
AT_ONCE, LATER = "when it is posted", "when it is loaded"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder below which the service takes models; ``good`` is one that can be used."""
    folder = tmp_path_factory.mktemp("models")
    build_tiny_model().save_pretrained(folder / "good")
    build_tiny_tokenizer().save_pretrained(folder / "good")
    return folder


@pytest.fixture(scope="module")
def running(models: Path, tmp_path_factory: pytest.TempPathFactory, _migrated_sqlite: Path) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("service")
    shutil.copyfile(_migrated_sqlite, folder / "spice.db")
    with InProcessService(f"sqlite:///{folder / 'spice.db'}", folder / "data", proxy_root=models) as service:
        yield service, service.push(ROWS)["id"]


@pytest.fixture
def model(models: Path) -> Path:
    """A copy of the good model, to be spoiled."""
    return Path(shutil.copytree(models / "good", models / f"copy-{len(list(models.iterdir()))}"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def as_encoder(folder: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertForMaskedLM(BertConfig(vocab_size=1024, **sizes)).save_pretrained(folder)


def as_encoder_decoder(folder: Path) -> None:
    T5Config(vocab_size=1024, d_model=16, num_layers=1, num_heads=2).save_pretrained(folder)


def as_nobody_knows(folder: Path) -> None:
    edit(folder / "config.json", architectures=None, model_type="nobody-knows")


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def with_a_layer_missing(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "layers.1.mlp.up_proj" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def cut_short(folder: Path) -> None:
    sound = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(sound[: len(sound) // 2])


def with_code_of_its_own(folder: Path) -> None:
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model"}, model_type="evil")
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")


def without_settings(folder: Path) -> None:
    (folder / "config.json").unlink()


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def with_a_foreign_tokenizer(folder: Path) -> None:
    build("qwen2", dtype=torch.float32).save_pretrained(folder)


def with_experts(folder: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = Qwen3MoeConfig(
        vocab_size=1024, intermediate_size=16, moe_intermediate_size=8, num_experts=2, num_experts_per_tok=1, **sizes
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


REFUSED: list[tuple[Callable[[Path], None], str, str]] = [
    (as_encoder, "unsupported-proxy", AT_ONCE),
    (as_encoder_decoder, "unsupported-proxy", AT_ONCE),
    (as_nobody_knows, "unsupported-proxy", LATER),
    (pickled, "unsafe-proxy", AT_ONCE),
    (without_weights, "unknown-proxy", AT_ONCE),
    (with_a_layer_missing, "proxy-invalid", LATER),
    (cut_short, "proxy-invalid", LATER),
    (with_code_of_its_own, "unsafe-proxy", AT_ONCE),
    (without_settings, "unknown-proxy", AT_ONCE),
    (without_tokenizer, "unsupported-proxy", AT_ONCE),
    (with_a_foreign_tokenizer, "unsupported-proxy", LATER),
    (with_experts, "unsupported-proxy", LATER),
]


def choose(model: Path, folder: Path, rows: bytes = ROWS, **gradients: Any) -> Any:
    source = folder / "pool.jsonl"
    source.write_bytes(rows)
    config = ss.RunConfig(
        proxy=ss.ProxyConfig(model=str(model)),
        gradients=ss.GradientConfig(**{**SETTINGS, **gradients}),
        selection=ss.SelectionConfig(budget=ss.Budget(fraction=1.0)),
    )
    return run(source, config)


@pytest.mark.parametrize(("spoil", "code", "when"), REFUSED, ids=[row[0].__name__ for row in REFUSED])
def test_a_bad_model_is_refused_by_name(
    running: Any, model: Path, tmp_path: Path, spoil: Callable[[Path], None], code: str, when: str
) -> None:
    spoil(model)
    with pytest.raises(SpiceError) as caught:
        choose(model, tmp_path)
    assert (caught.value.code, [found["pointer"] for found in caught.value.errors]) == (code, [MODEL])
    assert caught.value.detail

    service, dataset_id = running
    body = {"dataset_id": dataset_id, "budget": {"count": 2}, "gradients": SETTINGS, "proxy": {"model": str(model)}}
    answer = service.http.post("/v1/jobs", json=body)
    if when == AT_ONCE:
        assert answer.status_code == 422
        problem = answer.json()
    else:
        assert answer.status_code == 202, answer.text
        service.drain()
        job = service.job(answer.json()["id"])
        assert job["status"] == "failed"
        problem = job["error"]
    assert (problem["code"], [found["pointer"] for found in problem["errors"]]) == (code, [MODEL])
    assert not problem["retryable"]
    assert not (model / "ran").exists(), "code of a model was run"


def test_an_adapter_and_a_gguf_file_are_looked_at_when_the_job_is_posted(running: Any, models: Path) -> None:
    service, dataset_id = running
    (models / "a.gguf").write_bytes(b"zip")
    (models / "prefix").mkdir()
    (models / "prefix" / "adapter_config.json").write_text('{"peft_type": "PREFIX_TUNING"}')
    good, body = str(models / "good"), {"dataset_id": dataset_id, "budget": {"count": 2}, "gradients": SETTINGS}
    for proxy, code, pointer in (
        ({"model": str(models / "a.gguf")}, "unknown-proxy", MODEL),
        ({"model": "/etc/a.gguf"}, "proxy-not-allowed", MODEL),
        ({"model": good, "adapter": "/etc"}, "proxy-not-allowed", "#/proxy/adapter"),
        ({"model": good, "adapter": str(models / "good")}, "unknown-proxy", "#/proxy/adapter"),
        ({"model": good, "adapter": str(models / "prefix")}, "unsupported-proxy", "#/proxy/adapter"),
    ):
        answer = service.http.post("/v1/jobs", json={**body, "proxy": proxy})
        assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
        assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
def test_a_job_with_an_adapter_says_which_it_was(running: Any, models: Path) -> None:
    service, dataset_id = running
    adapted = get_peft_model(build_tiny_model(), LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(models / "lora")
    job = service.submit(dataset_id, proxy={"model": str(models / "good"), "adapter": str(models / "lora")})
    service.drain()
    done = service.job(job["id"])
    assert done["status"] == "succeeded", done["error"]
    provenance = service.http.get(f"/v1/jobs/{job['id']}/files/provenance.intoto.jsonl").text
    assert adapter_digest(models / "lora") in provenance


def bare(folder: Path) -> None:
    """A tokenizer that knows neither padding nor an end nor a template."""
    (folder / "chat_template.jinja").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for name in ("pad_token", "eos_token", "chat_template"):
        settings.pop(name, None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def of_60_tokens(folder: Path) -> None:
    edit(folder / "config.json", max_position_embeddings=60)


def dead(folder: Path) -> None:
    shutil.rmtree(folder)
    save_dead_proxy(folder)


LONG = jsonl([*sums(4), {"instruction": "Say it.", "output": "So it is. " * 40}])
DEAD = jsonl([{"instruction": "say", "output": text} for text in ("1", "nothing", "2", "3 ~")])

TAKEN: list[tuple[str, Callable[[Path], None], bytes, dict[str, Any], dict[str, Any]]] = [
    ("no pad, end or template", bare, ROWS, {}, {"pool": 6, "truncated": 0, "excluded_by_code": {}}),
    ("a row beyond the context, cut", of_60_tokens, LONG, {}, {"pool": 5, "truncated": 1, "excluded_by_code": {}}),
    (
        "a row beyond the context, left out",
        of_60_tokens,
        LONG,
        {"overflow": "exclude"},
        {"pool": 4, "truncated": 0, "excluded_by_code": {"too-long": 1}},
    ),
    (
        "gradients of zero and NaN",
        dead,
        DEAD,
        {},
        {"pool": 2, "truncated": 0, "excluded_by_code": {"gradient-zero": 1, "gradient-not-finite": 1}},
    ),
]


@pytest.mark.parametrize(
    ("spoil", "rows", "settings", "expected"), [row[1:] for row in TAKEN], ids=[r[0] for r in TAKEN]
)
def test_what_can_be_used_is_used_and_the_rest_is_counted_and_listed(
    running: Any,
    model: Path,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    rows: bytes,
    settings: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    spoil(model)
    found = choose(model, tmp_path, rows, **settings)
    assert {name: found.summary[name] for name in expected} == expected
    listed = [(item["row"], item["code"]) for item in found.excluded]
    assert len(listed) == sum(expected["excluded_by_code"].values())

    service, _ = running
    job = service.submit(
        service.push(rows)["id"],
        proxy={"model": str(model)},
        budget={"fraction": 1.0},
        gradients={**SETTINGS, **settings},
    )
    service.drain()
    result = service.job(job["id"])["result"]
    assert {name: result[name] for name in expected} == expected
    assert [(item["source_row"], item["code"]) for item in result["excluded_samples"]] == listed


@pytest.mark.parametrize(
    ("raised", "code", "retryable"),
    [
        (
            torch.AcceleratorError("CUDA error: the device is gone\nCompile with TORCH_USE_CUDA_DSA"),
            "device-lost",
            True,
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB."), "out-of-memory", False),
    ],
    ids=["a device that vanishes", "a sample that does not fit"],
)
def test_trouble_with_the_device_has_a_code_and_what_was_done_before_is_kept(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, code: str, retryable: bool
) -> None:
    """The library's half; ``test_device_lost`` is the service's."""
    pool, target, cache = tmp_path / "pool.jsonl", tmp_path / "target.jsonl", tmp_path / "cache"
    pool.write_bytes(ROWS)
    target.write_bytes(jsonl(sums(3, start=50)))
    config = ss.RunConfig(
        proxy=ss.ProxyConfig(model=str(models / "good")),
        gradients=ss.GradientConfig(**SETTINGS),
        selection=ss.SelectionConfig(budget=ss.Budget(count=2), method="less"),
    )
    shards, measured = [], BatchPass.__call__

    def fail_in_the_second_shard(self: BatchPass, batch: Any) -> Any:
        if len(shards) == 1:
            raise raised
        shards.append(batch)
        return measured(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(BatchPass, "__call__", fail_in_the_second_shard)
        with pytest.raises(SpiceError) as caught:
            run(pool, config, cache=cache, targets=[TargetFile("target", target)])
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert str(raised).splitlines()[0] in caught.value.detail
    assert "TORCH_USE_CUDA_DSA" not in caught.value.detail
    (kept,) = (cache / "gradients").iterdir()
    written = kept.stat().st_mtime_ns
    assert len(run(pool, config, cache=cache, targets=[TargetFile("target", target)]).ranking) == 2
    assert kept.stat().st_mtime_ns == written, "the shard that was done is not done again"
