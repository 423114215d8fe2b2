"""How much of a planted benchmark the screen ``contamination`` finds, and how often it is wrong.

    python -m benchmarks.contamination FILE [--rows 200] [--seed 0] [--json]

FILE holds records of instructions and answers, JSON lines, may be gzipped. Three times ``--rows`` of them, drawn at
random, are the benchmark. The pool is all others, and each benchmark row once: a third of them word for word, a third
with the sentences in another order (words, where there is one sentence), a third with one word in ten replaced by
another of the file. A false alarm is a row of the others that is taken out and is no near-duplicate of a benchmark row.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import sys
import time
from pathlib import Path

from benchmarks.machine import describe
from spice_select.records.contamination import Benchmark, contaminated
from spice_select.records.near_duplicates import near_duplicates_of

WORDS = 8


def read(path: Path) -> list[str]:
    """Prompt and response of every record."""
    data = path.read_bytes()
    lines = (gzip.decompress(data) if path.suffix == ".gz" else data).decode().split("\n")
    return [said(json.loads(line)) for line in lines if line]


def said(record: dict[str, object]) -> str:
    """What a record says."""
    messages = record.get("messages")
    if isinstance(messages, list):
        return " ".join(str(message["content"]) for message in messages)
    names = ("instruction", "question", "prompt", "input", "output", "answer", "response")
    return " ".join(str(record[name]) for name in names if record.get(name))


def reordered(text: str, draw: random.Random) -> str:
    """The sentences in another order; the words, where there is one sentence."""
    sentences = re.split(r"(?<=[.!?\n])\s+", text)
    parts, joint = (sentences, " ") if len(sentences) > 1 else (text.split(), " ")
    shuffled = parts[:]
    while shuffled == parts and len(set(parts)) > 1:
        draw.shuffle(shuffled)
    return joint.join(shuffled)


def changed(text: str, vocabulary: list[str], draw: random.Random) -> str:
    """One word in ten replaced."""
    words = text.split()
    for place in draw.sample(range(len(words)), max(1, len(words) // 10)):
        words[place] = draw.choice(vocabulary)
    return " ".join(words)


def measure(texts: list[str], rows: int, seed: int) -> dict[str, float]:
    """Found shares and false alarms."""
    draw = random.Random(seed)
    texts = sorted(set(texts))
    draw.shuffle(texts)
    benchmark, others = texts[: 3 * rows], texts[3 * rows :]
    vocabulary = sorted({word for text in others for word in text.split()})
    planted = [
        *benchmark[:rows],
        *(reordered(text, draw) for text in benchmark[rows : 2 * rows]),
        *(changed(text, vocabulary, draw) for text in benchmark[2 * rows :]),
    ]
    began = time.process_time()
    hits = contaminated([*planted, *others], [Benchmark("planted", benchmark)], WORDS)
    seconds = time.process_time() - began
    places = {hit.place for hit in hits}
    alike = set(near_duplicates_of(others, benchmark))
    alarms = [place for place in places if place >= 3 * rows and place - 3 * rows not in alike]
    return {
        "pool": len(planted) + len(others),
        "verbatim": sum(place in places for place in range(rows)) / rows,
        "reordered": sum(place in places for place in range(rows, 2 * rows)) / rows,
        "words_changed": sum(place in places for place in range(2 * rows, 3 * rows)) / rows,
        "near_duplicates_in_the_pool": len(alike),
        "false_alarms": len(alarms) / len(others),
        "processor_seconds": seconds,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    figures = measure(read(arguments.file), arguments.rows, arguments.seed)
    for name, value in figures.items():
        print(f"{name:30} {value:.4g}")
    if arguments.json:
        print(json.dumps({"contamination": figures, "machine": describe()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
