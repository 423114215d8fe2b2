"""Style and scripts, read once; their addresses carry a digest so that browsers may keep them for ever."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fastapi import APIRouter, Request, Response

from app.errors import NotFoundError

FOLDER = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}

router = APIRouter(include_in_schema=False)


class Static(NamedTuple):
    """A file as it is sent."""

    content: bytes
    media_type: str
    digest: str


@cache
def statics() -> dict[str, Static]:
    """Every static file by its name."""
    files = {}
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in MEDIA_TYPES:
            content = path.read_bytes()
            files[path.name] = Static(content, MEDIA_TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:16])
    return files


def static_url(name: str) -> str:
    """Address of a static file."""
    return f"/ui/static/{name}?v={statics()[name].digest}"


@router.get("/ui/static/{name}")
def static_file(request: Request, name: str) -> Response:
    """A static file; needs no key.

    Raises:
        NotFoundError: There is none of this name.
    """
    file = statics().get(name)
    if file is None:
        raise NotFoundError(f"file {name[:100]}")
    dated = request.query_params.get("v") == file.digest
    headers = {
        "ETag": f'"{file.digest}"',
        "Cache-Control": "public, max-age=31536000, immutable" if dated else "public, no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
