"""Tells a lineage service (OpenLineage) what has happened, beside the work and never in its way."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any, Protocol

import httpx

from app.logs import get_logger
from app.persistence.session import Database
from app.services.notify.lineage_feed import Batch, LineageFeed
from app.settings import Settings

TIMEOUT_SECONDS = 10.0
REFUSED = frozenset({400, 413, 415, 422})
"""Answers to what will never be taken, however often it is sent; everything else may pass."""


class NotTakenError(Exception):
    """An event could not be handed over for now."""


class Sink(Protocol):
    """Where run events go."""

    def send(self, event: dict[str, Any]) -> None:
        """Hand one event over.

        Raises:
            NotTakenError: Not now; it is sent again.
        """


class HttpSink:
    """The lineage endpoint of a service, such as Marquez's ``/api/v1/lineage``.

    The address is the operator's own, so private ones are allowed; redirects are not followed.

    Args:
        url: Address.
        api_key: Sent as a bearer token; empty for none.
    """

    def __init__(self, url: str, api_key: str) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._url = url
        self._client = httpx.Client(timeout=TIMEOUT_SECONDS, headers=headers, follow_redirects=False)

    def send(self, event: dict[str, Any]) -> None:
        """Post one event.

        Raises:
            NotTakenError: No answer, or one that may be another next time.
        """
        try:
            answer = self._client.post(self._url, json=event)
        except httpx.HTTPError as error:
            raise NotTakenError(f"{type(error).__name__}: {error}") from error
        if answer.status_code in REFUSED:
            get_logger().error(
                "lineage_refused", status=answer.status_code, run=event["run"]["runId"], answer=answer.text[:500]
            )
        elif not answer.is_success:
            raise NotTakenError(f"answered {answer.status_code}")


class FileSink:
    """A file that gets one line for each event.

    Args:
        path: The file; made when missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, event: dict[str, Any]) -> None:
        """Append one line, on the disk before it counts.

        Raises:
            NotTakenError: It could not be written.
        """
        line = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            try:
                os.write(handle, line)
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise NotTakenError(str(error)) from error


def sink_of(settings: Settings) -> Sink | None:
    """Where the settings want run events; None when nowhere."""
    if settings.openlineage_url:
        return HttpSink(settings.openlineage_url, settings.openlineage_api_key.get_secret_value())
    return FileSink(settings.openlineage_file) if settings.openlineage_file is not None else None


class LineageSender:
    """Sends batch after batch, in order within a project; what is not taken waits and is sent again.

    Args:
        feed: What is to be told.
        sink: To whom.
    """

    def __init__(self, feed: LineageFeed, sink: Sink) -> None:
        self.feed = feed
        self.sink = sink

    def send_next(self) -> bool:
        """Send one batch; whether there was one."""
        batch = self.feed.next()
        if batch is None:
            return False
        last, error = self._send(batch)
        if error is not None:
            get_logger().warning(
                "lineage_not_taken", project=batch.project_id, error=error, failures=batch.failures + 1
            )
        self.feed.settle(batch, last, error)
        return True

    def _send(self, batch: Batch) -> tuple[int | None, str | None]:
        last: int | None = None
        for told in batch.events:
            try:
                for event in told.run_events:
                    self.sink.send(event)
            except NotTakenError as error:
                return last, str(error)
            last = told.event_id
        return last, None


def start_sender(settings: Settings, shutdown: threading.Event) -> threading.Thread | None:
    """Tell on a thread with a connection of its own, so that a slow lineage service delays nothing; None when off."""
    sink = sink_of(settings)
    if sink is None:
        return None
    database = Database(settings.resolved_database_url, pool_size=1)
    sender = LineageSender(LineageFeed(database, settings.openlineage_namespace), sink)

    def tell() -> None:
        while not shutdown.is_set():
            try:
                if sender.send_next():
                    continue
            except Exception as error:  # whatever happens here must not end the telling for good
                get_logger().error("lineage_round_failed", exc_info=error)
                shutdown.wait(5.0)
            shutdown.wait(max(settings.poll_seconds, 1.0))
        database.dispose()

    thread = threading.Thread(target=tell, name="lineage", daemon=True)
    thread.start()
    return thread
