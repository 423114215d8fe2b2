"""What was fetched, and the caps while it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.errors import ServiceError
from app.services.datasets.sources import refuse_source
from app.settings import Settings
from spice_select.errors import Stopped
from spice_select.ingest.source_urls import AnySource, FileSource, HttpsSource, HubSource


@dataclass(frozen=True)
class FetchedFile:
    """A file of a source.

    Attributes:
        name: Its path or key, as the source calls it.
        bytes: Its size.
        sha256: Digest (hex) of its bytes.
        version: What the source calls this version of it, such as an ETag.
    """

    name: str
    bytes: int
    sha256: str
    version: str | None = None


@dataclass(frozen=True)
class Fetched:
    """What a source was when it was fetched.

    Attributes:
        uri: Address, without secrets, pinned where the source knows versions.
        files: Its files, in the order in which they are read.
        revision: Commit, for a hub data set.
    """

    uri: str
    files: list[FetchedFile] = field(default_factory=list)
    revision: str | None = None


class Meter:
    """Counts what arrives.

    Args:
        max_bytes: Most bytes of all files together.
        seconds: Longest time for all of it.
        on_bytes: Told the bytes so far and the total, where it is known.
        should_stop: Asked again and again.

    Attributes:
        bytes: Arrived so far.
        total: To come in all; 0 where it is not known.
    """

    def __init__(
        self,
        max_bytes: int,
        seconds: float,
        on_bytes: Callable[[int, int | None], object],
        should_stop: Callable[[], bool],
    ) -> None:
        self.max_bytes, self.seconds = max_bytes, seconds
        self._on_bytes, self._should_stop = on_bytes, should_stop
        self._began = time.monotonic()
        self.bytes = self.total = 0

    @property
    def seconds_left(self) -> float:
        """Until the time is over; never negative."""
        return max(0.0, self._began + self.seconds - time.monotonic())

    def expect(self, size: int) -> None:
        """Refuse what is announced to be too much.

        Raises:
            ServiceError: ``download-limit``.
        """
        if size > self.max_bytes:
            raise ServiceError("download-limit", f"the source has {size} bytes, at most {self.max_bytes} are taken")
        self.total = size

    def reached(self, count: int) -> None:
        """So many bytes have arrived by now.

        Raises:
            ServiceError: ``download-limit``.
            Stopped: Somebody wants the work to end.
        """
        self.bytes = count
        if self._should_stop():
            raise Stopped("the fetching was stopped")
        if count > self.max_bytes:
            raise ServiceError("download-limit", f"the source has more than {self.max_bytes} bytes")
        if not self.seconds_left:
            raise ServiceError("download-limit", f"fetching the source took longer than {self.seconds:g} seconds")
        self._on_bytes(count, self.total or None)


def fetch(
    source: AnySource,
    folder: Path,
    settings: Settings,
    meter: Meter,
    *,
    pinned: str | None,
    pin: Callable[[dict[str, Any]], None],
) -> Fetched:
    """Bring the files of a source into a folder, named so that the intake reads them in order.

    Args:
        source: What to fetch.
        folder: An empty folder.
        settings: For what may be reached, and with which credentials.
        meter: The caps.
        pinned: Revision that an earlier attempt resolved the source to.
        pin: Told the revision before the first byte is fetched, so that another attempt fetches the same.

    Raises:
        ServiceError: ``source-not-allowed``, ``source-not-found``, ``source-unreachable``, ``hub-unreachable``,
            ``url-not-allowed``, ``download-limit``, ``digest-mismatch`` or a ``dataset-*`` code.
        Stopped: The meter said so.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the kinds
    # Again here: the settings may have been narrowed since it was asked for, and a worker trusts its own.
    refuse_source(source, settings)
    if isinstance(source, FileSource):
        from workers.sources.folders import fetch_files

        return fetch_files(source, folder, settings, meter)
    if isinstance(source, HubSource):
        from workers.sources.hub import fetch_hub

        return fetch_hub(source, folder, settings, meter, pinned=pinned, pin=pin)
    if isinstance(source, HttpsSource):
        from workers.sources.https import fetch_https

        return fetch_https(source, folder, settings, meter)
    from workers.sources.s3 import fetch_s3

    return fetch_s3(source, folder, settings, meter)
