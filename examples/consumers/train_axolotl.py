"""Axolotl on what a job selected: ``python examples/consumers/train_axolotl.py JOB --model MODEL``.

Needs ``pip install spice-select axolotl pyyaml``. ``SPICE_API_URL`` and ``SPICE_API_KEY`` say which service.
``--only-write`` writes rows and configuration and prints the command.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import yaml


def main() -> None:
    """Fetch the rows with their part of a configuration, write the rest of it, train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--out", type=Path, default=Path("trained"))
    parser.add_argument("--only-write", action="store_true")
    asked = parser.parse_args()

    data = asked.out / "data"
    subprocess.run(["spice-select", "pull", asked.job, "--format", "axolotl", "-o", str(data)], check=True)
    settings = {
        **yaml.safe_load((data / "axolotl.yaml").read_text(encoding="utf-8")),
        "base_model": asked.model,
        "adapter": "lora",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_target_linear": True,
        "sequence_len": 1024,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 8,
        "num_epochs": 1,
        "learning_rate": 1e-4,
        "optimizer": "adamw_torch",
        "output_dir": str(asked.out / "model"),
    }
    written = asked.out / "axolotl.yaml"
    written.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    command = ["axolotl", "train", str(written)]
    print(" ".join(command), flush=True)
    if not asked.only_write:
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
