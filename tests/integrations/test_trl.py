"""TRL's own trainer takes a few steps on a result: by a signed link, and by the configuration that ``pull`` writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spice_select.cli import main
from tests.fixtures.service import jsonl
from tests.integrations.conftest import Finished, Script

TRAIN = """
import json
import spice_select as ss
from datasets import load_dataset
from trl import DatasetMixtureConfig, SFTConfig, SFTTrainer, TrlParser, get_dataset

def train(rows):
    proxy = ss.load_proxy(ss.ProxyConfig(model="builtin:tiny"), ss.GradientConfig(targets="linear"))
    proxy.model.requires_grad_(True)
    args = SFTConfig(
        output_dir={out!r}, max_steps=4, per_device_train_batch_size=4, learning_rate=1e-2, max_length=128,
        logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, bf16=False, disable_tqdm=True,
    )
    trainer = SFTTrainer(model=proxy.model, args=args, train_dataset=rows, processing_class=proxy.tokenizer)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

linked = load_dataset("parquet", data_files={link!r}, split="train")
(mixture,) = TrlParser((DatasetMixtureConfig,)).parse_args_and_config(["--config", {config!r}])
pulled = get_dataset(mixture)["train"]
print(json.dumps({{
    "linked": [len(linked), train(linked)],
    "pulled": [pulled[0], len(pulled), train(pulled)],
}}))
"""


def test_sft_trainer_trains_on_a_link_and_on_what_pull_writes(
    finished: Finished, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = finished.service
    conversations = [
        {"messages": [{"role": "user", "content": f"Add {i} and 1."}, {"role": "assistant", "content": f"{i + 1}"}]}
        for i in range(20)
    ]
    files = {"file": ("talk.jsonl", jsonl(conversations))}
    dataset = service.http.post("/v1/datasets", files=files, headers=finished.headers).json()
    service.drain()
    job = service.submit(dataset["id"], headers=finished.headers, budget={"count": 10})
    service.drain()
    url = f"{finished.url}/v1/jobs/{job['id']}/files/selected.parquet"
    link = service.http.post(f"{url}/links", json={}, headers=finished.headers).json()["url"]
    # The other job chose from records of an instruction and an output, which TRL does not read as they are.
    arguments = ["pull", finished.job_id, "--format", "trl", "-o", str(tmp_path / "data")]
    monkeypatch.setenv("SPICE_API_URL", finished.url)
    monkeypatch.setenv("SPICE_API_KEY", finished.secret)
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json"])
    assert ended.value.code == 0
    lines = TRAIN.format(out=str(tmp_path / "out"), link=link, config=str(tmp_path / "data" / "trl.yaml"))
    found = json.loads(script(lines).splitlines()[-1])
    count, losses = found["linked"]
    assert count == 10
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    first, count, losses = found["pulled"]
    record = json.loads(finished.chosen[0])
    assert first["messages"][0] == {"role": "user", "content": record["instruction"]}
    assert first["messages"][1] == {"role": "assistant", "content": record["output"]}
    assert (count, len(losses)) == (12, 4)
    assert losses[-1] < losses[0]
