"""The loaders of other trainers read what ``pull`` writes: each from PyPI, in a folder of its own over our packages.

``--no-deps``: torch, transformers and datasets are those of this environment, so no trainer brings another torch.
LLaMA-Factory is held at 0.9.3: later ones import torchaudio, which does not load beside torch's build for CPUs. It does
not know the form ``openai`` yet, which is written where messages hold tool calls.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spice_select.config import Budget, GradientConfig, RunConfig, SelectionConfig
from spice_select.models.tiny import build_tiny_tokenizer
from spice_select.pipeline.run import run
from spice_select.records.records import to_messages
from spice_select.records.tokenize import Example, encode
from spice_select.results.trainers import Trainer, axolotl_config, swift_config, write_conversations
from tests.contracts.packages import ROOT
from tests.fixtures.network import OFFLINE

pytestmark = pytest.mark.soak

PACKAGES = {
    "axolotl": ("axolotl==0.19.0", "colorama==0.4.6", "addict==2.4.0"),
    "swift": (
        "ms-swift==4.6.0", "pillow==13.0.0", "modelscope==1.40.2", "modelscope-hub==0.5.1", "json-repair==0.64.6",
    ),
    "llamafactory": ("llamafactory==0.9.3", "omegaconf==2.4.0", "antlr4-python3-runtime==4.9.3"),
}  # fmt: skip
TOOLS = [{"type": "function", "function": {"name": "depth_at", "description": "Depth", "parameters": {}}}]
CALL = {"type": "function", "function": {"name": "depth_at", "arguments": {"buoy": "B0"}}}
ROWS: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "user", "content": "How deep?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "3 m"},
            {"role": "assistant", "content": "3 metres.", "reasoning_content": "so three"},
        ],
        "tools": TOOLS,
    },
    {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Wrong", "weight": 0},
            {"role": "user", "content": "Again"},
            {"role": "assistant", "content": "Right"},
        ]
    },
    {"messages": [{"role": "user", "content": "Sure?"},
                  {"role": "assistant", "content": [{"type": "text", "text": "Well no, ", "weight": 0},
                                                    {"type": "text", "text": "that is right."}]}]},
    {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "2+2?"},
                  {"role": "assistant", "content": "4"}]},
]  # fmt: skip
PAIRS = [
    {"prompt": "Name a tree", "chosen": "Oak", "rejected": "Stone"},
    {"prompt": "Name a fish", "chosen": "Cod", "rejected": "Oak"},
]
MESSAGES: Any = {"messages": "messages", "tools": "tools"}
PAIR: Any = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}

AXOLOTL = """
import json, sys, yaml
from datasets import load_dataset
from axolotl.prompt_strategies.chat_template import load
from axolotl.prompt_strategies.dpo.chat_template import default
from axolotl.utils.dict import DictDefault
from spice_select.models.tiny import build_tiny_tokenizer

tokenizer = build_tiny_tokenizer()
shared = dict(sequence_len=512, train_on_inputs=False, chat_template="tokenizer_default", eot_tokens=["<|im_end|>"])
configs = [yaml.safe_load(open(path))["datasets"][0] for path in sys.argv[1:]]
rows, pairs = (load_dataset("json", data_files=config["path"], split="train") for config in configs)
strategy = load(tokenizer, DictDefault(shared), DictDefault(configs[0]))
made = [strategy.tokenize_prompt(row) for row in rows]
transform, _ = default(DictDefault({**shared, "datasets": [configs[1]]}), dataset_idx=0)
print(json.dumps([[[row["input_ids"], row["labels"]] for row in made], [transform(pair, tokenizer) for pair in pairs]]))
"""
SWIFT = """
import json, sys, yaml
from swift.dataset import load_dataset

made = []
for path in sys.argv[1:]:
    loaded, _ = load_dataset(yaml.safe_load(open(path))["dataset"], num_proc=1, shuffle=False)
    made.append(list(loaded))
print(json.dumps(made))
"""
LLAMAFACTORY = """
import json, sys
from pathlib import Path
from llamafactory.data.loader import _load_single_dataset
from llamafactory.data.parser import get_dataset_list
from llamafactory.hparams import DataArguments, ModelArguments
from transformers import Seq2SeqTrainingArguments

made = []
for folder in sys.argv[1:]:
    (name,) = json.loads((Path(folder) / "dataset_info.json").read_text())
    (entry,) = get_dataset_list([name], folder)
    training = Seq2SeqTrainingArguments(output_dir=folder + "/trained", report_to=[])
    data = DataArguments(dataset_dir=folder, template="default")
    made.append(list(_load_single_dataset(entry, ModelArguments(model_name_or_path="none"), data, training)))
print(json.dumps(made))
"""


def said(folder: Path, trainer: str, script: str, *arguments: Path) -> Any:
    """What a script prints last, in a process that has the trainer's packages and no network."""
    packages = folder / "packages"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SPICE_", "HF_", "PYTHONPATH"))}
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages)]
    done = subprocess.run(
        [*pip, *PACKAGES[trainer]], env=clean, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    env = {
        **clean,
        **OFFLINE,
        "PYTHONPATH": f"{packages}{os.pathsep}{ROOT}",
        "HOME": str(folder),
        "HF_HOME": str(folder / "hf"),
        "MODELSCOPE_CACHE": str(folder / "modelscope"),
        "DISABLE_VERSION_CHECK": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-3000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pulled(folder: Path, trainer: Trainer) -> tuple[Path, Path]:
    """The rows and the pairs as ``pull`` writes them for a trainer."""
    rows, pairs = folder / "rows-train.jsonl", folder / "pairs-train.jsonl"
    write_conversations(lines(folder / "rows.jsonl", ROWS), rows, "messages", MESSAGES, trainer=trainer)
    write_conversations(lines(folder / "pairs.jsonl", PAIRS), pairs, "preference", PAIR, trainer=trainer)
    return rows, pairs


def measured(rows: list[dict[str, Any]], form: Any, columns: Any, objective: Any) -> list[Example]:
    conversations = [to_messages(row, form, columns) for row in rows]
    return encode(conversations, build_tiny_tokenizer(), max_length=512, objective=objective).examples


def test_axolotl_learns_the_tokens_that_were_measured(tmp_path: Path) -> None:
    configs = []
    for path, form in zip(pulled(tmp_path, "axolotl"), ("messages", "preference"), strict=True):
        configs.append(path.with_suffix(".yaml"))
        configs[-1].write_text(axolotl_config(path, form))  # type: ignore[arg-type]
    rows, pairs = said(tmp_path, "axolotl", AXOLOTL, *configs)
    assert rows == [[row.input_ids, row.labels] for row in measured(ROWS, "messages", MESSAGES, "sft")]
    decode = build_tiny_tokenizer().decode
    for found, example in zip(pairs, measured(PAIRS, "preference", PAIR, "dpo"), strict=True):
        chosen, rejected = (decode(side.input_ids).removesuffix("\n") for side in example.sequences())
        assert (found["prompt"] + found["chosen"], found["prompt"] + found["rejected"]) == (chosen, rejected)


def test_swift_reads_every_turn_tool_and_flag(tmp_path: Path) -> None:
    configs = []
    for path in pulled(tmp_path, "swift"):
        configs.append(path.with_suffix(".yaml"))
        configs[-1].write_text(swift_config(path))
    made = said(tmp_path, "swift", SWIFT, *configs)
    for path, rows in zip(pulled(tmp_path, "swift"), made, strict=True):
        written = [json.loads(line) for line in path.read_text().splitlines()]
        assert [row["messages"] for row in rows] == [row["messages"] for row in written]
        assert [row.get("rejected_messages") for row in rows] == [row.get("rejected_messages") for row in written]
        tools = [json.loads(row["tools"]) if "tools" in row else None for row in written]
        assert [row.get("tools") for row in rows] == tools


def test_llamafactory_reads_the_entry_of_a_result(tmp_path: Path) -> None:
    plain = [
        {"conversations": [{"from": "human", "value": f"{n}+{n}?"}, {"from": "gpt", "value": f"{2 * n}"}]}
        for n in range(3)
    ]
    folders = []
    for name, rows, objective in (("plain", plain, "sft"), ("pairs", PAIRS, "dpo")):
        folders.append(tmp_path / name)
        gradients = GradientConfig.model_validate({"sketch_dim": 4, "objective": objective})
        config = RunConfig(selection=SelectionConfig(budget=Budget(count=2)), gradients=gradients, preset=None)
        run(lines(tmp_path / f"{name}.jsonl", rows), config, folders[-1])
    made = said(tmp_path, "llamafactory", LLAMAFACTORY, *folders)
    selected = [[json.loads(line) for line in (place / "selected.jsonl").read_text().splitlines()] for place in folders]
    for found, row in zip(made[0], selected[0], strict=True):
        asked, answered = (turn["value"] for turn in row["conversations"])
        assert found["_prompt"] == [{"role": "user", "content": asked}]
        assert found["_response"] == [{"role": "assistant", "content": answered}]
    for found, row in zip(made[1], selected[1], strict=True):
        assert found["_prompt"] == [{"role": "user", "content": row["prompt"]}]
        assert [turn["content"] for turn in found["_response"]] == [row["chosen"], row["rejected"]]
