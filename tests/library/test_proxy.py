"""Which models are taken, which are refused and why, and what identifies them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5ForConditionalGeneration

from spice_select.config import GradientConfig, ProxyConfig
from spice_select.errors import ConfigError, ProxyError, UnknownProxyError, UnsafeProxyError, UnsupportedProxyError
from spice_select.gradients.collect import collect_gradients
from spice_select.models.model_files import BUILTIN, check_folder, folder_digest
from spice_select.models.proxy import load_proxy
from spice_select.models.tiny import build_tiny_model, build_tiny_tokenizer
from spice_select.records.tokenize import encode
from tests.library.families import build

SETTINGS = GradientConfig(sketch_dim=8)
CONVERSATION: Any = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]


def load(folder: Path, **settings: Any) -> Any:
    return load_proxy(ProxyConfig(model=str(folder)), SETTINGS.model_copy(update=settings))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build_tiny_model().save_pretrained(folder)
    build_tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_built_in_model_has_the_same_weights_on_every_machine() -> None:
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    proxy = load_proxy(ProxyConfig(), SETTINGS)
    assert torch.equal(torch.random.get_rng_state(), before)
    # written down once: whoever changes weights or tokens has to raise the revision
    assert (proxy.revision, proxy.name) == (BUILTIN["builtin:tiny"], "builtin:tiny")
    assert proxy.weights_sha256 == "20ef0fccbe2875b646b887b348285045d6612a5db26e796b1516723be8ca049b"
    assert proxy.tokenizer_sha256 == "2e37ef061d94c013879d4700b34d5aecbfbb69ddbc725bf72ebccf5283a82a3b"


def test_a_saved_folder_gives_the_gradients_of_the_model_it_was_saved_from(folder: Path) -> None:
    local, built_in = load(folder), load_proxy(ProxyConfig(), SETTINGS)
    assert local.revision == folder_digest(folder)
    gradients = []
    for proxy in (local, built_in):
        examples = encode([CONVERSATION], proxy.tokenizer, max_length=64).examples
        gradients.append(collect_gradients(proxy.model, examples, SETTINGS))
    assert torch.equal(*gradients)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_weights_come_in_the_type_they_are_computed_in(folder: Path, dtype: str) -> None:
    for proxy in (load(folder, dtype=dtype), load_proxy(ProxyConfig(), SETTINGS.model_copy(update={"dtype": dtype}))):
        assert {p.dtype for p in proxy.model.parameters()} == {getattr(torch, dtype)}
        assert not proxy.model.training


def test_one_changed_weight_changes_revision_and_weights_digest(folder: Path) -> None:
    before = load(folder)
    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    after = load(folder)
    assert (after.revision != before.revision, after.weights_sha256 != before.weights_sha256) == (True, True)
    assert after.tokenizer_sha256 == before.tokenizer_sha256


def test_another_template_changes_revision_and_tokenizer_digest(folder: Path) -> None:
    before = load(folder)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    after = load(folder)
    assert after.weights_sha256 == before.weights_sha256
    assert after.tokenizer_sha256 != before.tokenizer_sha256
    assert after.revision != before.revision


def test_several_weight_files_are_read_as_one(folder: Path) -> None:
    model = build_tiny_model()
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="200KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    loaded = load(folder).model.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())


def test_pickled_weights_beside_safe_ones_are_never_opened(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    assert load(folder).model is not None


def test_the_context_of_the_model_limits_the_tokenizer(folder: Path) -> None:
    edit(folder / "config.json", max_position_embeddings=48)
    assert load(folder).tokenizer.model_max_length == 48


def test_a_tokenizer_without_padding_and_template_is_good_enough(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("pad_token")
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    proxy = load(folder)
    assert proxy.tokenizer.chat_template is None
    examples = encode([CONVERSATION], proxy.tokenizer, max_length=64).examples
    assert collect_gradients(proxy.model, examples, SETTINGS).norm() > 0.9


@pytest.mark.parametrize(
    "name", ["builtin:huge", "/no/such/folder", "./no/such/folder", "no such id", "nobody/nothing"]
)
def test_unknown_models_are_named(name: str) -> None:
    with pytest.raises(UnknownProxyError) as caught:
        load_proxy(ProxyConfig(model=name), SETTINGS)
    assert name.split("/")[-1] in caught.value.detail


def test_a_revision_belongs_to_the_hub(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no revision"):
        load_proxy(ProxyConfig(model=str(folder), revision="main"), SETTINGS)
    with pytest.raises(UnknownProxyError, match="revision"):
        load_proxy(ProxyConfig(revision="main"), SETTINGS)
    assert load_proxy(ProxyConfig(revision=BUILTIN["builtin:tiny"]), SETTINGS).name == "builtin:tiny"


def test_pickles_alone_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(build_tiny_model().state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(UnsafeProxyError, match=r"pytorch_model\.bin"):
        load(folder)


def test_a_model_with_its_own_code_is_refused_and_the_code_not_run(folder: Path) -> None:
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model"}, model_type="evil")
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UnsafeProxyError, match="own code"):
        load(folder)


def test_a_folder_without_weights_or_config_is_unknown(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnknownProxyError, match="no safetensors"):
        check_folder(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnknownProxyError, match=r"no config\.json"):
        check_folder(tmp_path / "empty")
    for content in (b"{", b"[]", b"\xff\xfe\x3d", b""):
        (folder / "config.json").write_bytes(content)
        with pytest.raises(UnknownProxyError, match=r"config\.json"):
            check_folder(folder)


def test_models_that_are_no_causal_language_models_are_refused(folder: Path, tmp_path: Path) -> None:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    T5ForConditionalGeneration(T5Config(vocab_size=1024, **sizes)).save_pretrained(tmp_path / "t5")
    with pytest.raises(UnsupportedProxyError, match="encoder-decoder"):
        load(tmp_path / "t5")
    edit(folder / "config.json", architectures=["Qwen2ForSequenceClassification"])
    with pytest.raises(UnsupportedProxyError, match="Qwen2ForSequenceClassification"):
        load(folder)
    edit(folder / "config.json", architectures=None, model_type="clip")
    with pytest.raises(UnsupportedProxyError):
        load(folder)
    edit(folder / "config.json", model_type="nobody-knows")
    with pytest.raises(UnsupportedProxyError):
        load(folder)


def test_incomplete_or_broken_weights_are_refused_and_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    lacking = {name: value for name, value in weights.items() if "layers.1.mlp.up_proj" not in name}
    save_file(lacking, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ProxyError, match=r"layers\.1\.mlp\.up_proj\.weight"):
        load(folder)
    wrong = {name: value[:1] if name.endswith("up_proj.weight") else value for name, value in weights.items()}
    save_file({n: v.contiguous() for n, v in wrong.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ProxyError):
        load(folder)
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ProxyError, match="cannot be loaded"):
        load(folder)


def test_a_missing_or_foreign_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedProxyError, match="tokenizer"):
        load(folder)
    small = tmp_path / "small"
    build("qwen2", dtype=torch.float32).save_pretrained(small)
    build_tiny_tokenizer().save_pretrained(small)
    with pytest.raises(UnsupportedProxyError, match="1024 tokens, the model knows 53"):
        load(small)


def test_a_hub_model_comes_from_the_cache_at_its_commit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--acme--tiny"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    proxy = load_proxy(ProxyConfig(model="acme/tiny"), SETTINGS)
    assert (proxy.name, proxy.revision) == ("acme/tiny", commit)
    assert load_proxy(ProxyConfig(model="acme/tiny", revision=commit), SETTINGS).weights_sha256 == proxy.weights_sha256
    with pytest.raises(UnknownProxyError, match="acme/tiny"):
        load_proxy(ProxyConfig(model="acme/tiny", revision="f" * 40), SETTINGS)
    edit(repository / "snapshots" / commit / "config.json", auto_map={"AutoConfig": "evil.Config"})
    with pytest.raises(UnsafeProxyError):
        load_proxy(ProxyConfig(model="acme/tiny"), SETTINGS)


def test_checking_files_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'numpy'): sys.modules[name] = None\n"
        "import spice_select.models.model_files as files\n"
        "print(files.BUILTIN)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes"])
def test_quantised_weights_are_refused_with_what_to_do(tmp_path: Path, method: str) -> None:
    config = json.loads((Path(__file__).parent / "cases" / "80-quantized-config.json").read_text())
    config["quantization_config"]["quant_method"] = method
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedProxyError, match=rf"quantised \({method}\).*name the model"):
        load_proxy(ProxyConfig(model=str(tmp_path)), GradientConfig())


def test_an_adapter_alone_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UnsupportedProxyError, match="merge_and_unload"):
        load_proxy(ProxyConfig(model=str(tmp_path)), GradientConfig())
