"""TRL's ``SFTTrainer`` on what a job selected: ``python examples/consumers/train_trl.py JOB --model MODEL``.

Needs ``pip install spice-select trl``. ``SPICE_API_URL`` and ``SPICE_API_KEY`` say which service.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import torch
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Fetch the rows as conversations and train on them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--out", type=Path, default=Path("trained"))
    parser.add_argument("--steps", type=int, default=50)
    asked = parser.parse_args()

    data = asked.out / "data"
    subprocess.run(["spice-select", "pull", asked.job, "--format", "trl", "-o", str(data)], check=True)
    rows = load_dataset("json", data_files=str(data / "train.jsonl"), split="train")
    settings = SFTConfig(
        output_dir=str(asked.out),
        max_steps=asked.steps,
        per_device_train_batch_size=4,
        max_length=512,
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available(),
        logging_steps=1,
        save_strategy="no",
        report_to="none",
    )
    trainer = SFTTrainer(model=asked.model, args=settings, train_dataset=rows)
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
