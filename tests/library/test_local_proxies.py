"""Proxies as people have them on their disks: GGUF files, adapters of PEFT, weights with NaN."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from spice_select.config import GradientConfig, ProxyConfig
from spice_select.errors import ProxyError, UnknownProxyError, UnsafeProxyError, UnsupportedProxyError
from spice_select.models import adapter as adapters
from spice_select.models import gguf_file
from spice_select.models.model_files import file_digest
from spice_select.models.proxy import load_proxy
from spice_select.models.tiny import build_tiny_model
from tests.fixtures.models import tiny_folder

SETTINGS = GradientConfig(sketch_dim=8)
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")  # of peft itself


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture
def lora(tmp_path: Path) -> tuple[Path, Any]:
    """An adapter with weights that do something, and the logits of the adapted model."""
    torch.manual_seed(0)
    adapted = get_peft_model(build_tiny_model(), LoraConfig(r=4, target_modules=["q_proj", "up_proj"]))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    adapted.save_pretrained(tmp_path / "lora")
    return tmp_path / "lora", adapted.eval()(torch.arange(20)[None]).logits.detach()


def test_an_adapter_is_merged_into_its_base(base: Path, lora: tuple[Path, Any]) -> None:
    folder, logits = lora
    plain = load_proxy(ProxyConfig(model=str(base)), SETTINGS)
    merged = load_proxy(ProxyConfig(model=str(base), adapter=str(folder)), SETTINGS)
    found = merged.model(torch.arange(20)[None]).logits
    torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, plain.model(torch.arange(20)[None]).logits, atol=1e-3)
    assert not [name for name, _ in merged.model.named_modules() if "lora" in name]
    assert (plain.adapter_sha256, merged.weights_sha256) == (None, plain.weights_sha256)
    assert merged.revision != plain.revision
    (folder / "adapter_config.json").write_text((folder / "adapter_config.json").read_text() + " ")
    assert load_proxy(ProxyConfig(model=str(base), adapter=str(folder)), SETTINGS).revision != merged.revision


def test_what_is_no_adapter_of_this_model_is_refused(base: Path, lora: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = lora
    weights, config = load_file(folder / "adapter_model.safetensors"), folder / "adapter_config.json"

    def refused(kind: type[ProxyError], match: str) -> None:
        with pytest.raises(kind, match=match) as caught:
            load_proxy(ProxyConfig(model=str(base), adapter=str(folder)), SETTINGS)
        assert caught.value.errors[0]["pointer"] == "#/proxy/adapter"

    def save(changed: dict[str, Any]) -> None:
        save_file(changed, folder / "adapter_model.safetensors", metadata={"format": "pt"})

    save(dict(list(weights.items())[1:]))
    refused(ProxyError, "another model")
    save({name: torch.full_like(value, float("nan")) for name, value in weights.items()})
    refused(ProxyError, "cannot be merged")
    save({name: value[..., :3].contiguous() for name, value in weights.items()})
    refused(ProxyError, "cannot be merged")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    refused(UnsafeProxyError, "safetensors")
    config.write_text(json.dumps({**json.loads(config.read_text()), "peft_type": "PREFIX_TUNING"}))
    refused(UnsupportedProxyError, "PREFIX_TUNING")
    config.unlink()
    refused(UnknownProxyError, "no adapter")


def test_without_the_packages_the_error_says_what_to_install(
    base: Path, lora: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda _name: None)
    with pytest.raises(UnsupportedProxyError, match=r"spice-select\[peft\]"):
        load_proxy(ProxyConfig(model=str(base), adapter=str(lora[0])), SETTINGS)
    monkeypatch.setattr(gguf_file, "find_spec", lambda _name: None)
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(UnsupportedProxyError, match=r"spice-select\[gguf\]"):
        load_proxy(ProxyConfig(model=str(tmp_path / "a.gguf")), SETTINGS)


def test_a_file_that_is_no_gguf_file_or_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with pytest.raises(UnknownProxyError, match="no file"):
        load_proxy(ProxyConfig(model=str(path)), SETTINGS)
    path.write_bytes(b"not a model")
    with pytest.raises(UnknownProxyError, match="no GGUF file"):
        load_proxy(ProxyConfig(model=str(path)), SETTINGS)
    path.write_bytes(b"GGUF\3\0\0\0" + b"\xff" * 16)
    with pytest.raises(ProxyError):
        load_proxy(ProxyConfig(model=str(path)), SETTINGS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(base: Path, tmp_path: Path, value: float) -> None:
    model = build_tiny_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = value
    folder = tiny_folder(tmp_path / "spoiled")
    model.save_pretrained(folder)
    with pytest.raises(ProxyError, match=r"NaN or infinity, in model\.layers\.1\.mlp\.up_proj\.weight"):
        load_proxy(ProxyConfig(model=str(folder)), SETTINGS)


def test_a_gguf_file_gives_the_weights_and_tokens_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    width, vocabulary, generator = 32, 300, np.random.default_rng(0)
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(48)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // 2)
    writer.add_vocab_size(vocabulary)
    letters = [chr(number) for number in range(33, 127)]
    tokens = ["<|endoftext|>", "\u0120", *letters, *(f"{a}{b}" for a in "abcdefghij" for b in letters)][:vocabulary]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, *[1] * (vocabulary - 1)])
    writer.add_token_merges([f"{token[0]} {token[1]}" for token in tokens if len(token) == 2])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    sizes = {
        "token_embd": (vocabulary, width), "output_norm": (width,), "output": (vocabulary, width),
        "blk.0.attn_norm": (width,), "blk.0.ffn_norm": (width,),
        "blk.0.attn_q": (width, width), "blk.0.attn_k": (width, width), "blk.0.attn_v": (width, width),
        "blk.0.attn_output": (width, width), "blk.0.ffn_gate": (48, width), "blk.0.ffn_up": (48, width),
        "blk.0.ffn_down": (width, 48),
    }  # fmt: skip
    weights = {name: generator.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    for name, value in weights.items():
        writer.add_tensor(f"{name}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    proxy = load_proxy(ProxyConfig(model=str(path)), SETTINGS)
    assert proxy.revision == proxy.weights_sha256 == file_digest([path])
    assert np.array_equal(proxy.model.model.layers[0].mlp.up_proj.weight.detach().numpy(), weights["blk.0.ffn_up"])
    assert proxy.tokenizer("ab ba", add_special_tokens=False)["input_ids"] == [
        tokens.index(t) for t in ("ab", "\u0120", "ba")
    ]
    assert not hasattr(proxy.model.config, "quantization_config")
