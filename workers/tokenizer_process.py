"""A tokenizer whose chat template runs in a child process: the worker outlives a template that eats memory or time."""

from __future__ import annotations

import json
import os
import subprocess  # ruff: ignore[suspicious-subprocess-import] - our own interpreter, no shell
import sys
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from app.services.health import ROOT
from spice_select.config import Objective, ProxyConfig
from spice_select.errors import ProxyError, TemplateLimitError
from spice_select.records.conversation import dump_conversation
from workers.tokenizer_child import EncodingTask, TokenizerTask, read_encoding


class TokenizerProcess:
    """A running child; it ends with this object.

    Args:
        proxy: Whose tokenizer it loads.
        memory_bytes: Address space it may take.
        seconds: Processor time it may take to load, and for each call.

    Attributes:
        problem: Why it cannot load the tokenizer; None where it has.
    """

    def __init__(self, proxy: ProxyConfig, memory_bytes: int, seconds: float) -> None:
        self._proxy, self._seconds = proxy, seconds
        self._memory_bytes = memory_bytes
        self._limit = sys.maxsize
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SPICE_")}
        self._child = subprocess.Popen(
            [sys.executable, "-m", "workers.tokenizer_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env={**environment, "MALLOC_ARENA_MAX": "2"},
            start_new_session=True,
        )
        self.close = weakref.finalize(self, _end, self._child)
        self._ask(TokenizerTask(proxy=proxy, memory_bytes=memory_bytes, seconds=seconds).model_dump_json())
        # Who loads it here as well says this in the words of the model's own faults, where it is one.
        self.problem: str | None = self._answer().get("problem")

    def limit(self, tokens: int) -> None:
        """Never encode more tokens than this, whatever is asked for: the context of the model."""
        self._limit = tokens

    def encode_conversations(
        self,
        conversations: Sequence[Any],
        *,
        max_length: int,
        overflow: Literal["truncate", "exclude"],
        today: str,
        objective: Objective,
    ) -> Any:
        """``records.tokenize.encode`` in the child.

        Raises:
            TemplateLimitError: It took more than it may.
            ProxyError: The child cannot go on.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by _answer()
        with tempfile.TemporaryDirectory(prefix="spice-encode-") as folder:
            source, target = Path(folder, "conversations"), Path(folder, "encoding")
            with source.open("w", encoding="utf-8", errors="surrogatepass") as file:
                file.writelines(f"{dump_conversation(conversation)}\n" for conversation in conversations)
            task = EncodingTask(
                source=str(source),
                target=str(target),
                max_length=min(max_length, self._limit),
                overflow=overflow,
                today=today,
                objective=objective,
            )
            self._ask(task.model_dump_json())
            if "done" not in self._answer():
                raise ProxyError(f"the tokenizer of {self._proxy.model} failed")
            return read_encoding(target)

    def _ask(self, line: str) -> None:
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):  # the answer says why
            self._child.stdin.write(line.encode() + b"\n")
            self._child.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        """The next word of the child.

        Raises:
            TemplateLimitError: It has run out of memory or time.
            ProxyError: It ended for no such reason.
        """
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line.endswith(b"\n"):
            status = self._child.wait()
            if status < 0:  # ended by its limit of time, or because it could not have more memory
                limit = f"{self._seconds:g} seconds of processor time or {self._memory_bytes} bytes of memory"
                raise TemplateLimitError(self._proxy.model, limit)
            raise ProxyError(f"the tokenizer of {self._proxy.model} ended with status {status}")
        word: dict[str, Any] = json.loads(line)
        if word.get("limit") == "memory":
            raise TemplateLimitError(self._proxy.model, f"{self._memory_bytes} bytes of memory")
        return word


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()
