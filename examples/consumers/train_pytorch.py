"""Plain PyTorch on what a job selected: ``python examples/consumers/train_pytorch.py JOB --model MODEL``.

Needs ``pip install spice-select[compute]``. ``SPICE_API_URL`` and ``SPICE_API_KEY`` say which service.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import spice_select as ss
from spice_select.client import Client


def main() -> None:
    """Fetch the rows, train on them, save the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--out", type=Path, default=Path("trained"))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    asked = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder, Client() as spice:
        spice.jobs.download(asked.job, folder)  # every file, digests checked
        records = [json.loads(line) for line in (Path(folder) / "selected.jsonl").read_text("utf-8").splitlines()]

    tokenizer = AutoTokenizer.from_pretrained(asked.model)
    model = AutoModelForCausalLM.from_pretrained(asked.model).train()
    # Tokens and labels as the selection saw them; a label of -100 is not learned.
    examples = ss.load_examples(records, tokenizer, max_length=512)
    optimizer = torch.optim.AdamW(model.parameters(), lr=asked.learning_rate)
    order = torch.Generator().manual_seed(0)
    for step in range(asked.steps):
        picked = [examples[int(index)] for index in torch.randint(len(examples), (asked.batch,), generator=order)]
        longest = max(len(example.input_ids) for example in picked)
        ids = torch.zeros(len(picked), longest, dtype=torch.long)
        labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
        for row, example in enumerate(picked):
            length = len(example.input_ids)
            ids[row, :length] = torch.tensor(example.input_ids)
            labels[row, :length] = torch.tensor(example.labels)
            mask[row, :length] = 1
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(json.dumps({"step": step + 1, "loss": round(loss.item(), 4)}), flush=True)
    model.save_pretrained(asked.out)
    tokenizer.save_pretrained(asked.out)


if __name__ == "__main__":
    main()
