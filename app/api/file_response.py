"""Answers that are files: strong ETags that are digests, conditions and ranges as RFC 9110 has them."""

from __future__ import annotations

import re

from fastapi import Request, Response
from fastapi.responses import FileResponse

from app.errors import ServiceError
from app.services.results.files import Stored

RANGES = re.compile(r"bytes=\s*(?:\d+-\d*|-\d+)(?:\s*,\s*(?:\d+-\d*|-\d+))*\s*", re.IGNORECASE)
MOST_RANGES = 20


def send_file(request: Request, file: Stored, headers: dict[str, str] | None = None) -> Response:
    """Send a file, or the part of it that is asked for, or nothing when the client has these very bytes.

    Args:
        request: The request, for its conditions and ranges.
        file: The file.
        headers: Further headers.

    Raises:
        ServiceError: ``range-not-satisfiable`` or ``precondition-failed``.
    """
    etag = f'"{file.sha256}"'
    headers = {
        "ETag": etag,
        "Cache-Control": "private, immutable, max-age=31536000",
        "Accept-Ranges": "bytes",
        **(headers or {}),
    }
    wanted = _tags(request.headers.get("if-match"))
    if wanted and not wanted & {etag, "*"}:
        raise ServiceError("precondition-failed", "these are other bytes than If-Match names", headers={"ETag": etag})
    if client_has(request, etag):
        return Response(status_code=304, headers=headers)
    _tidy_range(request, file, etag)
    return FileResponse(file.path, media_type=file.media_type, headers=headers, filename=file.name)


def client_has(request: Request, etag: str) -> bool:
    """Whether ``If-None-Match`` names this tag, written without ``W/``; weak and strong tags compare alike."""
    known = {tag.removeprefix("W/") for tag in _tags(request.headers.get("if-none-match"))}
    return bool(known & {etag, "*"})


def _tags(header: str | None) -> set[str]:
    return {tag.strip() for tag in (header or "").split(",") if tag.strip()}


def _tidy_range(request: Request, file: Stored, etag: str) -> None:
    """Leave the framework only ranges that it can serve: what is malformed is ignored, what lies outside refused.

    Raises:
        ServiceError: ``range-not-satisfiable``.
    """
    asked = request.headers.get("range")
    if asked is None:
        return
    condition = request.headers.get("if-range")
    kept: list[str] = []
    if RANGES.fullmatch(asked.strip()) and condition in {None, etag} and request.method == "GET":
        pairs = [part.strip().split("-") for part in asked.partition("=")[2].split(",")]
        malformed = any(first and last and int(first) > int(last) for first, last in pairs)
        if not malformed and len(pairs) <= MOST_RANGES:
            kept = [
                f"{first}-{last}"
                for first, last in pairs
                if (int(first) < file.bytes if first else int(last) > 0 and file.bytes > 0)
            ]
            if not kept:
                raise ServiceError(
                    "range-not-satisfiable",
                    f"the file has {file.bytes} bytes",
                    headers={"Content-Range": f"bytes */{file.bytes}", "ETag": etag},
                )
    others = [(name, value) for name, value in request.scope["headers"] if name.lower() != b"range"]
    request.scope["headers"] = others + ([(b"range", b"bytes=" + ",".join(kept).encode())] if kept else [])
