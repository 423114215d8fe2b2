"""Hostile files, each named by a seed and a number: good ones of every container and form, damaged in many ways."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TOKENS = [
    b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 400, b'"\\ud800"', b'"\\u0000"', b"\xef\xbb\xbf", b"\x00",
    b"\xff\xfe", b"[" * 300, b'{"a":' * 100, b'"', b"\\", b"\r", b"\n\n", b"\r\n", b",", b"{}", b"[]", b"null",
    b"true",
    b'""', b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b'"role":"assistant"', b'"messages":', b'"messages":[]',
    b"PAR1", b"\x1f\x8b\x08", b"Obj\x01", b"=cmd|' /C calc'!A0", b"\xe2\x80\xae", b"\xe2\x80\xa8",
]  # fmt: skip
TEXTS = ["", " ", "a", "What is 2 + 2?", "4", "\u202e", "\x00", "\ud83d\ude00", "x" * 5000, "<|im_end|>"]
TEXTS += ["\n", '"', ","]


def records(generator: random.Random) -> list[dict[str, Any]]:
    """A few records of one of the six forms, with odd texts now and then."""

    def text() -> str:
        return generator.choice(TEXTS) if generator.random() < 0.3 else f"word {generator.randrange(1000)}"

    makers: list[Callable[[], dict[str, Any]]] = [
        lambda: {"instruction": text(), "input": text(), "output": text()},
        lambda: {"prompt": text(), "completion": text()},
        lambda: {"question": text(), "answer": text()},
        lambda: {"messages": [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}]},
        lambda: {"conversations": [{"from": "human", "value": text()}, {"from": "gpt", "value": text()}]},
        lambda: {"text": text(), "group": generator.choice([1, None, "g", 1.5, []])},
    ]
    make = generator.choice(makers)
    return [make() for _ in range(generator.randint(1, 12))]


def seed_file(generator: random.Random) -> bytes:
    """A file as people send them: JSON lines, one JSON array, CSV, Parquet or Arrow's own types in it, perhaps gzip."""
    rows = records(generator)
    kind = generator.choice(["jsonl", "json", "csv", "parquet", "parquet"])
    if kind == "jsonl":
        content = "\n".join(json.dumps(row, ensure_ascii=generator.random() < 0.5) for row in rows).encode(
            "utf-8", "surrogatepass"
        )
    elif kind == "json":
        content = json.dumps(rows if generator.random() < 0.8 else {"data": rows}).encode()
    elif kind == "csv":
        names = list(rows[0])
        lines = [names, *([json.dumps(row[name]) for name in names] for row in rows)]
        content = generator.choice([b"\n", b"\r\n"]).join(",".join(line).encode() for line in lines)
    else:
        content = parquet(rows, generator)
    return gzip.compress(content, mtime=0) if generator.random() < 0.15 else content


def parquet(rows: list[dict[str, Any]], generator: random.Random) -> bytes:
    """The records as Parquet, with a random page layout; columns of mixed types become text."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    arrays: dict[str, pa.Array] = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
            arrays[name] = pa.array([json.dumps(value) for value in values])
    out = io.BytesIO()
    pq.write_table(
        pa.table(arrays), out,
        compression=generator.choice(["none", "snappy", "zstd", "gzip", "brotli"]),
        use_dictionary=generator.random() < 0.5,
        row_group_size=generator.choice([1, 3, 1000]),
        data_page_version=generator.choice(["1.0", "2.0"]),
    )  # fmt: skip
    return out.getvalue()


def flip(data: bytearray, generator: random.Random) -> None:
    data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)


def overwrite(data: bytearray, generator: random.Random) -> None:
    at = generator.randrange(len(data))
    for offset in range(min(generator.choice([1, 2, 4, 8]), len(data) - at)):
        data[at + offset] = generator.choice([0, 0xFF, 0x7F, 0x80, generator.randrange(256)])


def cut(data: bytearray, generator: random.Random) -> None:
    at = generator.randrange(len(data))
    del data[at : at + generator.randint(1, max(1, len(data) // 4))]


def repeat(data: bytearray, generator: random.Random) -> None:
    at = generator.randrange(len(data))
    piece = data[at : at + generator.randint(1, max(1, len(data) // 4))]
    data[at:at] = piece * generator.choice([1, 2, 50])


def insert(data: bytearray, generator: random.Random) -> None:
    at = generator.randrange(len(data) + 1)
    data[at:at] = generator.choice(TOKENS)


def truncate(data: bytearray, generator: random.Random) -> None:
    del data[generator.randrange(len(data)) :]


def splice(data: bytearray, generator: random.Random) -> None:
    other = seed_file(generator)
    data[generator.randrange(len(data)) :] = other[generator.randrange(len(other)) :]


@cache
def ways() -> tuple[Callable[[bytearray, random.Random], None], ...]:
    """All of the ways to damage a file."""
    return (flip, flip, overwrite, cut, repeat, insert, insert, truncate, splice)


def mutant(seed: int, number: int) -> bytes:
    """The same bytes for the same two numbers, on any machine with the same pyarrow."""
    generator = random.Random(f"{seed}/{number}")
    data = bytearray(seed_file(generator))
    for _ in range(generator.choice([0, 1, 1, 2, 3, 8])):
        if data:
            generator.choice(ways())(data, generator)
    return bytes(data)
