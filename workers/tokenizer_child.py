"""The child process in which the chat template and the tokenizer of a proxy model run, under limits of memory and time.

``python -m workers.tokenizer_child`` takes one ``TokenizerTask`` from its standard input, says ``{"ready": true}``,
then answers each ``EncodingTask`` with ``{"done": true}`` once the file is written. It ends when its input does.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel

from spice_select.config import Objective, ProxyConfig
from spice_select.errors import SpiceError
from workers.tokenizer_limits import do_without_torch, limit_rendering

if TYPE_CHECKING:
    from spice_select.records.tokenize import Encoding


class TokenizerTask(BaseModel):
    """Which tokenizer, and what it may take."""

    proxy: ProxyConfig
    memory_bytes: int
    """Address space of the process."""
    seconds: float
    """Processor time of each task."""


class EncodingTask(BaseModel):
    """Conversations to be encoded: the arguments of ``records.tokenize.encode``."""

    source: str
    """A file with a conversation on each line, as ``dump_conversation`` writes it."""
    target: str
    """The file to write."""
    max_length: int
    overflow: Literal["truncate", "exclude"]
    today: str
    objective: Objective


def main() -> None:
    """Load the tokenizer, then do one task after the other."""
    task = TokenizerTask.model_validate_json(sys.stdin.readline())
    do_without_torch(task.proxy.model)
    try:
        tokenizer = _load(task)
        _say(ready=True)
        for line in sys.stdin:
            _allow(task.seconds)
            _encode(EncodingTask.model_validate_json(line), tokenizer)
            _say(done=True)
    except MemoryError:
        _say(limit="memory")
    except SpiceError as error:
        _say(problem=error.detail)


def _load(task: TokenizerTask) -> Any:
    from spice_select.models.tokenizer import proxy_tokenizer

    limit_rendering(task.proxy.model, task.memory_bytes, task.seconds)
    return proxy_tokenizer(task.proxy)


def _allow(seconds: float) -> None:
    """Start the clock of one task anew."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 1, most))


def _say(**word: Any) -> None:
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()


def _encode(task: EncodingTask, tokenizer: Any) -> None:
    from spice_select.records.conversation import load_conversation
    from spice_select.records.tokenize import encode

    with Path(task.source).open(encoding="utf-8", errors="surrogatepass") as lines:
        conversations = [load_conversation(line) for line in lines]
    encoding = encode(
        conversations,
        tokenizer,
        max_length=task.max_length,
        overflow=task.overflow,
        today=task.today,
        objective=task.objective,
    )
    write_encoding(Path(task.target), encoding)


def write_encoding(path: Path, encoding: Encoding) -> None:
    """Write what became of conversations into one file, without a pickle.

    Args:
        path: The file.
        encoding: Its labels are the token ids themselves where they are learned.
    """
    from spice_select.records.tokenize import IGNORED

    examples = encoding.examples
    about = {
        "kept": encoding.kept,
        "truncated": encoding.truncated,
        "excluded": [[item.index, item.code, item.detail] for item in encoding.excluded],
        "notes": encoding.notes,
        "weights": {place: example.weights for place, example in enumerate(examples) if example.weights is not None},
        "splits": {place: example.split for place, example in enumerate(examples) if example.split is not None},
    }
    with path.open("wb") as file:
        np.savez(
            file,
            about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
            ids=np.fromiter((token for example in examples for token in example.input_ids), dtype=np.int32),
            learned=np.fromiter((label != IGNORED for example in examples for label in example.labels), dtype=np.bool_),
            ends=np.cumsum([len(example.input_ids) for example in examples], dtype=np.int64),
        )


def read_encoding(path: Path) -> Encoding:
    """What ``write_encoding`` wrote.

    Args:
        path: The file.
    """
    from collections import Counter

    from spice_select.records.tokenize import IGNORED, Encoding, Example, Exclusion

    with np.load(path, allow_pickle=False) as stored:
        about = json.loads(stored["about"].tobytes())
        ids, learned, ends = stored["ids"], stored["learned"], stored["ends"]
    labels = np.where(learned, ids, IGNORED)
    bounds: Sequence[int] = [0, *ends.tolist()]
    examples = [
        Example(
            ids[start:end].tolist(),
            labels[start:end].tolist(),
            about["weights"].get(str(place)),
            about["splits"].get(str(place)),
        )
        for place, (start, end) in enumerate(pairwise(bounds))
    ]
    excluded = [Exclusion(*item) for item in about["excluded"]]
    return Encoding(examples, about["kept"], about["truncated"], excluded, Counter(about["notes"]))


if __name__ == "__main__":
    main()
