"""Token ids of preference pairs are those of TRL's own trainer, and it trains on what is pulled."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset, load_dataset
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.data_utils import is_conversational
from trl.trainer.dpo_trainer import DataCollatorForPreference

from spice_select.models.tiny import build_tiny_tokenizer
from spice_select.pipeline.run import run
from spice_select.records.tokenize import encode
from spice_select.results.trainers import trl_row, write_conversations
from tests.library.families import build
from tests.library.test_objectives import PAIRS, conversation_of, ours, pairs_file, settings, sides
from tests.library.test_trl_labels import FOLDER, TEMPLATES, on_the_day_of_the_settings, tokenizer_of


def theirs(rows: list[dict[str, Any]], tokenizer: Any, max_length: int) -> list[tuple[list[int], list[int]]] | str:
    """Token ids of both sequences of each row, and which of them count, from TRL's own preparation and collator."""
    arguments = SimpleNamespace(dataset_num_proc=None, max_length=max_length, truncation_mode="keep_start")
    prepare: Any = DPOTrainer._prepare_dataset
    assert all(is_conversational(row) for row in rows)
    with on_the_day_of_the_settings():
        try:
            made = prepare(SimpleNamespace(_tokenizer=tokenizer), Dataset.from_list(rows), tokenizer, arguments, "rows")
        except Exception as error:  # whatever a template raises
            return f"{type(error).__name__}: {error}"
    if not len(made):
        return []
    batch = DataCollatorForPreference(pad_token_id=0, max_length=max_length)(list(made))
    ids, there, masks = batch["input_ids"], batch["attention_mask"].bool(), batch["completion_mask"]
    return [(ids[row][there[row]].tolist(), masks[row][there[row]].tolist()) for row in range(len(ids))]


@pytest.mark.parametrize("template", TEMPLATES)
def test_tokens_of_both_answers_are_those_of_trl(template: str) -> None:
    tokenizer = tokenizer_of((FOLDER / f"{template}.jinja").read_text(encoding="utf-8"))
    equal = 0
    for name, record in PAIRS.items():
        row = trl_row(conversation_of(record))
        expected, found = theirs([row], tokenizer, 4096), ours(record, tokenizer, 4096)
        if isinstance(expected, str):
            assert found.excluded[0].code == "template-refused", (template, name, expected)
        elif expected[0][0] == expected[1][0]:
            # A template for parts renders no answer: TRL would learn nothing from it.
            assert found.excluded, (template, name)
        else:
            assert found.examples, (template, name, found.excluded)
            assert sides(found.examples[0]) == expected, (template, name)
            equal += 1
    assert equal or "llava" in template or "idefics" in template, template


def test_a_pair_is_cut_as_trl_cuts_it() -> None:
    tokenizer = build_tiny_tokenizer()
    row = trl_row(conversation_of(PAIRS["three turns"]))
    whole = ours(PAIRS["three turns"], tokenizer, 4096).examples[0]
    longest = max(len(part.input_ids) for part in whole.sequences())
    kept = 0
    for length in range(8, longest + 2):
        expected, found = theirs([row], tokenizer, length), ours(PAIRS["three turns"], tokenizer, length)
        assert not isinstance(expected, str)
        if not expected:
            assert [item.code for item in found.excluded] == ["no-response-tokens"], length
        elif expected[0] == expected[1]:
            assert [item.code for item in found.excluded] == ["nothing-to-learn"], length
        else:
            assert sides(found.examples[0]) == expected, length
            assert bool(found.truncated) == (length < longest)
            kept += 1
    assert kept > 3
    left_out = encode(
        [conversation_of(PAIRS["three turns"])], tokenizer, max_length=longest - 1, overflow="exclude", objective="dpo"
    )
    assert [item.code for item in left_out.excluded] == ["too-long"]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_trl_loads_what_is_pulled(tmp_path: Path) -> None:
    source = pairs_file(tmp_path / "pairs.jsonl")
    made = run(source, settings(objective="dpo"), tmp_path / "out")
    selected = made.files["selected.jsonl"]
    assert write_conversations(selected, tmp_path / "train.jsonl", "preference", made.manifest.columns) == 3
    rows = load_dataset("json", data_files=str(tmp_path / "train.jsonl"), split="train")
    tokenizer = build_tiny_tokenizer()
    expected = theirs(list(rows), tokenizer, 512)
    records = [json.loads(line) for line in selected.read_text().splitlines()]
    found = [sides(ours(record, tokenizer, 512).examples[0]) for record in records]
    assert expected == [pair[0] for pair in found] + [pair[1] for pair in found]
    config = DPOConfig(
        output_dir=str(tmp_path / "trained"), max_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True,
        bf16=False, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    model = build("llama", dtype=torch.float32)
    model.resize_token_embeddings(len(tokenizer))
    tokenizer.pad_token = tokenizer.eos_token
    state = DPOTrainer(
        model=model, ref_model=copy.deepcopy(model), args=config, train_dataset=rows, processing_class=tokenizer
    ).train()
    assert state.training_loss == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_trl_loads_judged_answers_that_are_pulled(tmp_path: Path) -> None:
    source = tmp_path / "judged.jsonl"
    rows = [{"prompt": f"Is {n} even?", "completion": "Yes, it is", "label": n % 2 == 0} for n in range(4)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns: Any = {"prompt": "prompt", "response": "completion", "label": "label"}
    assert write_conversations(source, tmp_path / "train.jsonl", "preference", columns) == 4
    pulled = load_dataset("json", data_files=str(tmp_path / "train.jsonl"), split="train")
    assert pulled["label"] == [True, False, True, False]
    config = KTOConfig(
        output_dir=str(tmp_path / "trained"), max_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True,
        bf16=False, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    tokenizer, model = build_tiny_tokenizer(), build("llama", dtype=torch.float32)
    model.resize_token_embeddings(len(tokenizer))
    tokenizer.pad_token = tokenizer.eos_token
    trainer = KTOTrainer(
        model=model,
        ref_model=copy.deepcopy(model),
        args=config,
        train_dataset=pulled,
        processing_class=tokenizer,
    )
    # 1 - sigmoid(0) of each answer at the reference policy
    assert trainer.train().training_loss == pytest.approx(0.5, abs=1e-4)
