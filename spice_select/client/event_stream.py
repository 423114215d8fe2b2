"""Events as they happen: Server-Sent Events, and how a stream that broke off is continued. No input or output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import httpx
from pydantic import ValidationError

from spice_select.client.models import ENDED, Event
from spice_select.client.retry import LONGEST_RETRY_AFTER_SECONDS, pause_after_failure, pause_after_refusal
from spice_select.errors import ClientError

LAST_TYPES = frozenset(f"job.{status}" for status in ENDED)
SILENCE_SECONDS = 60.0
"""The service sends something every 15 seconds; a connection that is silent for longer is dead."""
MAX_LINE_BYTES = 2**20


class EventFollower:
    """One stream over any number of connections: what to ask for, and what came.

    Args:
        path: Of the stream.
        after: Only events behind the one of this id.
        types: Only these types; empty means all.
        retries: How many connections in a row may fail.
        ends: Whether the stream ends with the job it is about.
    """

    def __init__(self, path: str, after: int | None, types: Sequence[str], retries: int, *, ends: bool) -> None:
        self.path = path
        self._types = list(types)
        self._retries = retries
        self._ends = ends
        self._last_id = "" if after is None else str(after)
        self._pause = 1.0
        self._failures = 0
        self._buffer = b""
        self._fields: dict[str, list[str]] = {}
        self.over = False
        """Whether there is nothing more to come."""

    def request(self) -> tuple[dict[str, str], dict[str, Any]]:
        """Headers and query of the next connection."""
        self._buffer, self._fields = b"", {}
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        return headers, {"type": self._types} if self._types else {}

    def refused(self, response: httpx.Response) -> float:
        """Seconds to wait after an answer that is not a stream; its body has been read."""
        pause = pause_after_refusal(response, self._failures, self._retries)
        self._failures += 1
        return pause

    def broke(self, error: httpx.TransportError) -> float:
        """Seconds to wait after a connection that failed or broke off."""
        pause = pause_after_failure(error, self._failures, self._retries)
        self._failures += 1
        return pause

    def accept(self, response: httpx.Response) -> bool:
        """Whether an answer is a stream to be read.

        Raises:
            ClientError: It is neither a stream nor an error.
        """
        if response.status_code == httpx.codes.NO_CONTENT:
            self.over = True
            return False
        if not response.is_success:
            return False
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise ClientError(
                f"{response.request.url} did not answer with a stream",
                code="unexpected-answer",
                status=response.status_code,
            )
        return True

    @property
    def pause(self) -> float:
        """Seconds to wait after a stream that the service ended in good order."""
        return self._pause

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that are complete with these bytes.

        Raises:
            ClientError: The service sends something other than events.
        """
        self._failures = 0
        # Text may hold other line separators than the newline, so lines are not left to the library.
        self._buffer += chunk
        while not self.over and b"\n" in self._buffer:
            line, self._buffer = self._buffer.split(b"\n", 1)
            yield from self._line(line.decode("utf-8", "replace").removesuffix("\r"))
        if len(self._buffer) > MAX_LINE_BYTES:
            raise ClientError("the service sent a line longer than 1 MiB", code="unexpected-answer")

    def _line(self, line: str) -> Iterator[Event]:
        if line:
            name, _, value = line.partition(":")
            if name:
                self._fields.setdefault(name, []).append(value.removeprefix(" "))
            return
        fields, self._fields = self._fields, {}
        if "id" in fields and "\0" not in fields["id"][-1]:
            self._last_id = fields["id"][-1]
        if "retry" in fields and fields["retry"][-1].isdigit():
            self._pause = min(float(fields["retry"][-1]) / 1000, LONGEST_RETRY_AFTER_SECONDS)
        if "data" not in fields:
            return
        try:
            event = Event.model_validate_json("\n".join(fields["data"]))
        except ValidationError as error:
            raise ClientError("the service sent an event that cannot be read", code="unexpected-answer") from error
        self.over = self._ends and event.type in LAST_TYPES
        yield event
