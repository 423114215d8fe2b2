"""The row against bergson: both measure the same texts with the same model on one GPU and write the gradients to disk.

bergson pins a torch of its own, so it runs in an interpreter of its own that is named on the command line:

    python3 -m venv ../bergson && ../bergson/bin/pip install bergson
    python -m benchmarks.gradients --device cuda --size large --bergson-python ../bergson/bin/python

Each is run on n and on 3 n rows as a process of its own; the difference of the two wall times leaves out what it takes
to start and to load the model. bergson is given bfloat16, its own search for the best batch and as many numbers per
layer as ours (8 x 8).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks._contenders import build
from spice_select.config import Budget, GradientConfig, ProxyConfig, RunConfig, SelectionConfig
from spice_select.pipeline import run
from spice_select.tiny import build_tiny_tokenizer

ROWS = 2000


def compare_with_bergson(python: str | None, *, size: str = "large", rows: int = ROWS) -> dict[str, Any] | None:
    """Tokens per second of both, and theirs over ours; None without an interpreter that has bergson.

    Args:
        python: That interpreter.
        size: Of the model, see ``benchmarks._contenders.SIZES``.
        rows: n.
    """
    if python is None:
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = build_tiny_tokenizer()
        build(size, "cpu", torch.bfloat16).save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        seconds: dict[str, list[float]] = {"ours": [], "bergson": []}
        tokens = []
        for number, count in enumerate((rows, 3 * rows)):
            source = folder / f"rows-{count}.jsonl"
            tokens.append(write_texts(source, count, tokenizer))
            commands = {
                "ours": our_command(folder / "model", source, folder / f"ours-{number}"),
                "bergson": bergson_command(python, folder / "model", source, folder / f"bergson-{number}"),
            }
            for who, command in commands.items():
                began = time.perf_counter()
                subprocess.run(command, check=True, stdout=sys.stderr)
                seconds[who].append(time.perf_counter() - began)
        more = tokens[1] - tokens[0]
        speed = {who: round(more / (long - short)) for who, (short, long) in seconds.items()}
        return {"tokens_per_second": speed, "ours_to_theirs": round(speed["ours"] / speed["bergson"], 3), "rows": rows}


def write_texts(path: Path, count: int, tokenizer: Any) -> int:
    """Texts of the bundled data set, again and again under a number of their own; how many tokens they have."""
    bundled = Path(__file__).parents[1] / "examples" / "bundled.jsonl"
    with bundled.open(encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    texts = [" ".join(str(value) for value in record.values()) for record in found]
    rows = [f"{number} {texts[number % len(texts)]}" for number in range(count)]
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    return sum(len(ids) for ids in tokenizer(rows)["input_ids"])


def our_command(model: Path, source: Path, out: Path) -> list[str]:
    """Ours: from the file to gradient shards on the disk, the smallest choice after it."""
    return [sys.executable, "-m", "benchmarks._bergson", str(model), str(source), str(out)]


def bergson_command(python: str, model: Path, source: Path, out: Path) -> list[str]:
    """Theirs: ``bergson build`` at its best settings."""
    shutil.rmtree(out, ignore_errors=True)
    build_ = [python, "-m", "bergson", "build", str(out), "--model", str(model), "--dataset", str(source)]
    settings = ["--precision", "bf16", "--projection_dim", "8", "--loss_reduction", "mean", "--truncation"]
    return [*build_, *settings, "--token_batch_size", "8192", "--auto_batch_size", "--overwrite"]


def main() -> None:
    """Our side, in a process of its own."""
    model, source, out = sys.argv[1:]
    config = RunConfig(
        proxy=ProxyConfig(model=model),
        gradients=GradientConfig(dtype="bfloat16", normalize="none"),
        selection=SelectionConfig(budget=Budget(count=1), method="random"),
    )
    run(Path(source), config, cache=Path(out), device="cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
