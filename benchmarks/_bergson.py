"""The row against bergson: both measure the same texts with the same model on one GPU and write the gradients to disk.

bergson brings packages of its own, so it runs in an interpreter of its own that is named on the command line. The one
command that fills the row, on a machine with a GPU (its options are those of bergson 2.5.1):

    python3 -m venv ../bergson && ../bergson/bin/pip install bergson
    python -m benchmarks.gradients --device cuda --size large --bergson-python ../bergson/bin/python

Each is run on n and on 3 n rows as a process of its own; the difference of the two wall times leaves out what it takes
to start and to load the model. bergson is given bfloat16 and as many numbers per layer as ours (8 x 8). Its own search
for the largest batch that fits runs before, untimed; it is timed with that and with as many tokens as ours, and what
counts is its faster one.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks._contenders import CONTEXT, build
from spice_select.config import Budget, GradientConfig, ProxyConfig, RunConfig, SelectionConfig
from spice_select.models.tiny import build_tiny_tokenizer
from spice_select.pipeline.run import run

ROWS = 4000


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
        model, sources, tokens = folder / "model", [], []
        tokenizer = build_tiny_tokenizer()
        tokenizer.model_max_length = CONTEXT
        build(size, "cpu", torch.bfloat16).save_pretrained(model)
        tokenizer.save_pretrained(model)
        for count in (rows, 3 * rows):
            sources.append(folder / f"rows-{count}.jsonl")
            tokens.append(write_texts(sources[-1], count, tokenizer))
        largest = _largest_batch(python, model, sources[0], folder)
        batches = sorted({largest, min(largest, GradientConfig().batch_tokens)})
        speed = {"ours": _speed([our_command(model, s, folder / f"ours-{s.stem}") for s in sources], tokens)}
        for batch in batches:
            commands = [bergson_command(python, model, s, folder / f"theirs-{batch}-{s.stem}", batch) for s in sources]
            speed[f"bergson, {batch} tokens a batch"] = _speed(commands, tokens)
        best = max(each for who, each in speed.items() if who != "ours")
        return {"tokens_per_second": speed, "ours_to_theirs": round(speed["ours"] / best, 3), "rows": rows}


def _speed(commands: list[list[str]], tokens: list[int]) -> int:
    """Tokens per second, from a short and a long run."""
    seconds = []
    for command in commands:
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=sys.stderr)
        seconds.append(time.perf_counter() - began)
    return round((tokens[1] - tokens[0]) / (seconds[1] - seconds[0]))


def _largest_batch(python: str, model: Path, source: Path, folder: Path) -> int:
    """Tokens of the largest batch that fits the device, as bergson finds it and leaves it in its folder."""
    subprocess.run(
        bergson_command(python, model, source, folder / "search", None), check=True, stdout=sys.stderr, cwd=folder
    )
    found = (folder / ".cache" / "batch_size_cache.jsonl").read_text(encoding="utf-8").splitlines()
    return int(json.loads(found[-1])["token_batch_size"])


def write_texts(path: Path, count: int, tokenizer: Any) -> int:
    """Texts as long as the rows of an instruction set, each under a number of its own; how many tokens they have."""
    bundled = Path(__file__).parents[1] / "examples" / "bundled.jsonl"
    with bundled.open(encoding="utf-8") as lines:
        whole = " ".join(str(value) for line in lines for value in json.loads(line).values())
    characters = len(whole) / len(tokenizer(whole, verbose=False)["input_ids"])
    draw = random.Random(0)
    rows = []
    for number in range(count):
        length = round(characters * min(1000, max(16, draw.lognormvariate(5.2, 0.6))))
        start = draw.randrange(len(whole) - length)
        rows.append(f"{number} {whole[start : start + length]}")
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    return sum(len(ids) for ids in tokenizer(rows)["input_ids"])


def our_command(model: Path, source: Path, out: Path) -> list[str]:
    """Ours: from the file to gradient shards on the disk, the smallest choice after it."""
    return [sys.executable, "-m", "benchmarks._bergson", str(model), str(source), str(out)]


def bergson_command(python: str, model: Path, source: Path, out: Path, batch: int | None) -> list[str]:
    """Theirs: ``bergson build`` with batches of so many tokens; None searches for the largest that fit."""
    build_ = [python, "-m", "bergson", "build", str(out), "--model", str(model), "--dataset", str(source)]
    settings = ["--precision", "bf16", "--projection_dim", "8", "--loss_reduction", "mean", "--truncation"]
    batches = ["--auto_batch_size"] if batch is None else ["--token_batch_size", str(batch)]
    return [*build_, *settings, *batches]


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
