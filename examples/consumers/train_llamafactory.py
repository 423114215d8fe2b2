"""LLaMA-Factory on what a job selected: ``python examples/consumers/train_llamafactory.py JOB --model MODEL``.

Needs ``pip install spice-select llamafactory``. ``SPICE_API_URL`` and ``SPICE_API_KEY`` say which service.
``--only-write`` writes rows and configuration and prints the command.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path


def main() -> None:
    """Fetch the rows beside their ``dataset_info.json``, write a configuration, train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job")
    parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B-Instruct")
    parser.add_argument("--template", default="qwen")
    parser.add_argument("--out", type=Path, default=Path("trained"))
    parser.add_argument("--only-write", action="store_true")
    asked = parser.parse_args()

    data = asked.out / "data"
    pull = ["spice-select", "pull", asked.job, "--format", "llamafactory", "--name", "selected", "-o", str(data)]
    subprocess.run(pull, check=True)
    settings = {
        "model_name_or_path": asked.model,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "dataset_dir": str(data),
        "dataset": "selected",
        "template": asked.template,
        "cutoff_len": 1024,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 8,
        "learning_rate": 1e-4,
        "num_train_epochs": 1.0,
        "output_dir": str(asked.out / "model"),
        "report_to": "none",
    }
    written = asked.out / "train.json"  # LLaMA-Factory reads YAML, and JSON
    written.write_text(json.dumps(settings, indent=2), encoding="utf-8")
    command = ["llamafactory-cli", "train", str(written)]
    print(" ".join(command), flush=True)
    if not asked.only_write:
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
