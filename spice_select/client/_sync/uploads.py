"""Send a large file in parts: an upload that broke off continues with the next part, also from another process."""

# Generated from ../_async/uploads.py by `make client`: change that file instead.

from __future__ import annotations

import base64
import hashlib
import io
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spice_select.client._sync.transport import UPLOAD_SECONDS, Transport
from spice_select.client.answers import parse
from spice_select.client.models import Dataset, Page, Upload
from spice_select.client.request_bodies import as_json

PARTS_ABOVE_BYTES = 64 * 2**20
"""Files larger than this go in parts."""
UPLOADS_PATH = "/v1/datasets/uploads"

OnBytes = Callable[[int, int], object]
"""Called with the bytes that have arrived, and those of the whole."""


def push_in_parts(
    transport: Transport,
    source: Path | bytes,
    about: Mapping[str, Any],
    part_bytes: int | None,
    on_bytes: OnBytes | None,
) -> Dataset:
    """Send a file in parts and have them put together.

    If an earlier upload of the same bytes under the same name and settings broke off, it is continued: the service
    knows which parts it has, so nothing needs to be remembered here.

    Args:
        transport: The way to the service.
        source: File, or its bytes.
        about: ``name``, ``format``, ``columns`` and ``metadata``, as the service takes them.
        part_bytes: Bytes of a part; None leaves it to the service.
        on_bytes: Called after each part.
    """
    with _opened(source) as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        size = content.seek(0, io.SEEK_END)
        upload = _unfinished(transport, size, sha256, about, part_bytes)
        if upload is None:
            body = as_json({**about, "bytes": size, "sha256": sha256, "part_bytes": part_bytes})
            headers = {"Idempotency-Key": str(uuid.uuid4())}
            upload = parse(transport.send("POST", UPLOADS_PATH, headers=headers, json=body), Upload)
        received = {part.number for part in upload.parts or ()}
        done = upload.received_bytes
        path = f"{UPLOADS_PATH}/{upload.id}"
        for number in range(1, upload.num_parts + 1):
            if on_bytes is not None:
                on_bytes(done, size)
            if number in received:
                continue
            content.seek((number - 1) * upload.part_bytes)
            part = content.read(upload.part_bytes)
            digest = base64.b64encode(hashlib.sha256(part).digest()).decode()
            headers = {"Content-Digest": f"sha-256=:{digest}:", "Content-Type": "application/octet-stream"}
            transport.send("PUT", f"{path}/parts/{number}", headers=headers, content=part, read_timeout=UPLOAD_SECONDS)
            done += len(part)
    if on_bytes is not None:
        on_bytes(done, size)
    return parse(transport.send("POST", f"{path}/complete", read_timeout=2 * UPLOAD_SECONDS), Dataset)


def _unfinished(
    transport: Transport, size: int, sha256: str, about: Mapping[str, Any], part_bytes: int | None
) -> Upload | None:
    """An upload of this very file that broke off, with its parts."""
    page = transport.fetch(UPLOADS_PATH, Page[Upload], sha256=sha256)
    for upload in page.data:
        same = {name: getattr(upload, name) or None for name in about} == {k: v or None for k, v in about.items()}
        if same and upload.bytes == size and part_bytes in {None, upload.part_bytes}:
            return transport.fetch(f"{UPLOADS_PATH}/{upload.id}", Upload)
    return None


def _opened(source: Path | bytes) -> io.BufferedReader | io.BytesIO:
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
