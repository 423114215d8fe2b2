"""ms-swift on what a job selected: ``python examples/consumers/train_swift.py JOB --model MODEL``.

Needs ``pip install spice-select ms-swift``. ``SPICE_API_URL`` and ``SPICE_API_KEY`` say which service.
``--only-write`` writes rows and configuration and prints the command.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path


def main() -> None:
    """Fetch the rows with their configuration and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job")
    parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B-Instruct")
    parser.add_argument("--out", type=Path, default=Path("trained"))
    parser.add_argument("--only-write", action="store_true")
    asked = parser.parse_args()

    data = asked.out / "data"
    subprocess.run(["spice-select", "pull", asked.job, "--format", "swift", "-o", str(data)], check=True)
    command = ["swift", "sft", str(data / "swift.yaml"), "--model", asked.model, "--tuner_type", "lora"]
    command += ["--num_train_epochs", "1", "--learning_rate", "1e-4", "--output_dir", str(asked.out / "model")]
    print(" ".join(command), flush=True)
    if not asked.only_write:
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
