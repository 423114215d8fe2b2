"""A file behind a public https address, through the guard of outbound requests."""

from __future__ import annotations

from pathlib import Path

import httpx

from app.errors import ServiceError
from app.outbound import Guard
from app.services.datasets.sources import guard_of
from app.settings import Settings
from spice_select.ingest import numbered
from spice_select.ingest.source_urls import HttpsSource, without_secrets
from workers.sources.fetched import Fetched, FetchedFile, Meter

_GONE = {400, 401, 403, 404, 405, 406, 410, 451}


def fetch_https(
    source: HttpsSource, folder: Path, settings: Settings, meter: Meter, guard: Guard | None = None
) -> Fetched:
    """Download a file.

    Args:
        source: Where it is, and the digest it must have.
        folder: Where to.
        settings: For the guard.
        meter: The caps.
        guard: Another one, for tests.

    Raises:
        ServiceError: ``url-not-allowed``, ``download-limit``, ``source-not-found``, ``source-unreachable`` or
            ``digest-mismatch``.
    """
    address = without_secrets(source.url)
    name = address.rstrip("/").rpartition("/")[2] or "file"
    guard = guard or guard_of(settings)

    def advance(count: int, total: int | None) -> None:
        if total is not None and not meter.total:
            meter.expect(total)
        meter.reached(count)

    try:
        with (folder / numbered(0, name)).open("wb") as out:
            came = guard.download(
                source.url, out, max_bytes=meter.max_bytes, max_seconds=meter.seconds_left or 0.001, on_bytes=advance
            )
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        code = "source-not-found" if status in _GONE else "source-unreachable"
        raise ServiceError(code, f"the address answers {status}", pointer="#/source/url") from error
    except httpx.HTTPError as error:
        raise ServiceError("source-unreachable", f"the address does not answer ({type(error).__name__})") from error
    if source.sha256 is not None and source.sha256 != came.sha256:
        detail = f"the file has the sha256 {came.sha256}, asked for was {source.sha256}"
        raise ServiceError("digest-mismatch", detail, pointer="#/source/sha256")
    etag = came.headers.get("etag", "").removeprefix("W/").strip('"')[:200] or None
    return Fetched(address, [FetchedFile(name, came.bytes, came.sha256, etag)])
