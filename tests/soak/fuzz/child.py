"""Reads one hostile file after the other in this process, under the limits of the intake, and says what came of each.

    python -m tests.soak.fuzz.child SEED FIRST SECONDS

A line of JSON before each, so that a death is known by its number, and one after it.
"""

from __future__ import annotations

import errno
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from spice_select.errors import DatasetError
from spice_select.ingest.__main__ import limit_process
from spice_select.ingest.manifest import DatasetManifest, IntakeLimits, IntakeOptions
from spice_select.ingest.parse import parse
from spice_select.ingest.stored import iter_rows, rows_name
from tests.soak.fuzz.mutants import mutant

MOST_BYTES = 64 * 2**20
LIMITS = IntakeLimits(max_decoded_bytes=MOST_BYTES, max_output_bytes=2 * MOST_BYTES, memory_bytes=2 * 2**30)


def read(content: bytes, folder: Path) -> str:
    """What becomes of one file: ``ready``, the code of its refusal, ``memory``, or ``hole: ...``, which is a fault."""
    source, out = folder / "source", folder / "out"
    source.write_bytes(content)
    out.mkdir(exist_ok=True)
    for old in out.iterdir():
        old.unlink()
    try:
        manifest = parse(source, out, IntakeOptions(), LIMITS)
        return wrong_with(manifest, out) or "ready"
    except DatasetError as error:
        if any(name.name == "manifest.json" for name in out.iterdir()):
            return "hole: refused, and a manifest is left"
        return error.code
    except MemoryError:
        return "memory"
    except OSError as error:
        return "dataset-too-large" if error.errno == errno.EFBIG else f"hole: {error!r}"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"hole: {type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {str(error)[:200]}"


def wrong_with(manifest: DatasetManifest, out: Path) -> str:
    """What a data set that was taken must keep: rows add up, and each can be read and trained on."""
    if manifest.num_rows != manifest.num_usable + manifest.num_rejected:
        return "hole: rows do not add up"
    if sum(manifest.rejected.values()) != manifest.num_rejected:
        return "hole: reasons do not add up"
    read_back = 0
    for shard in range(len(manifest.shards)):
        for row in iter_rows(out / rows_name(shard)):
            read_back += 1
            said = [turn["content"] for turn in row.messages if turn["role"] in {"assistant", "text"}]
            if not any(text.strip() for text in said):
                return f"hole: row {row.source_row} has nothing to learn from"
            json.dumps(row.value()).encode()
    return "" if read_back == manifest.num_usable else f"hole: {read_back} of {manifest.num_usable} rows can be read"


def main() -> None:
    """Read until the last file or until the time is up."""
    seed, number, last, seconds = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    limit_process(LIMITS)
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="spice-fuzz-") as folder:
        while number < last and time.monotonic() < end:
            content = mutant(seed, number)
            say({"number": number})
            began = time.monotonic()
            say({"number": number, "end": read(content, Path(folder)), "seconds": time.monotonic() - began})
            number += 1


def say(word: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
