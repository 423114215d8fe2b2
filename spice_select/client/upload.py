"""Send a large file in parts: what broke off goes on with the next part, also in another process on another day."""

# ruff: file-ignore[return-in-generator] - an operation yields its steps and returns its result

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from spice_select.client.models import Dataset, Page, Upload
from spice_select.client.retry import Operation, Send, send

PARTS_ABOVE_BYTES = 64 * 2**20
"""Files larger than this go in parts."""
_BLOCK = 2**20
_UPLOADS = "/v1/datasets/uploads"

OnBytes = Callable[[int, int], object]
"""Told the bytes that have arrived, and those of the whole."""


def push_in_parts(
    open_source: Callable[[], BinaryIO],
    about: Mapping[str, Any],
    retries: int,
    timeout: float,
    part_bytes: int | None,
    on_bytes: OnBytes | None,
) -> Operation[Dataset]:
    """Send a file in parts and have them put together.

    An upload of the same bytes under the same name and settings that was broken off before is gone on with: the service
    knows which parts it has, so nothing needs to be remembered here.

    Args:
        open_source: Opens the file from its start.
        about: ``name``, ``format``, ``columns`` and ``metadata``, as the service takes them.
        retries: How many times each request may be repeated.
        timeout: Longest silence of the service, seconds.
        part_bytes: Bytes of a part; None leaves it to the service.
        on_bytes: Told how far it is.
    """
    size, sha256 = _measured(open_source)
    upload = yield from _earlier(size, sha256, about, part_bytes, retries)
    if upload is None:
        body = {**about, "bytes": size, "sha256": sha256, "part_bytes": part_bytes}
        given = {name: value for name, value in body.items() if value is not None}
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        response = yield from send(Send("POST", _UPLOADS, headers=headers, json=given), retries)
        upload = Upload.model_validate(response.json())
    there = {part.number for part in upload.parts or ()}
    done = upload.received_bytes
    with open_source() as source:
        for number in range(1, upload.num_parts + 1):
            if on_bytes is not None:
                on_bytes(done, size)
            if number in there:
                continue
            source.seek((number - 1) * upload.part_bytes)
            piece = source.read(upload.part_bytes)
            digest = base64.b64encode(hashlib.sha256(piece).digest()).decode()
            request = Send(
                "PUT",
                f"{_UPLOADS}/{upload.id}/parts/{number}",
                headers={"Content-Digest": f"sha-256=:{digest}:", "Content-Type": "application/octet-stream"},
                content=piece,
                read_timeout=max(timeout, 300.0),
            )
            yield from send(request, retries)
            done += len(piece)
    if on_bytes is not None:
        on_bytes(done, size)
    request = Send("POST", f"{_UPLOADS}/{upload.id}/complete", read_timeout=max(timeout, 600.0))
    response = yield from send(request, retries)
    return Dataset.model_validate(response.json())


def _earlier(
    size: int, sha256: str, about: Mapping[str, Any], part_bytes: int | None, retries: int
) -> Operation[Upload | None]:
    """An upload of this very file that was broken off, with its parts."""
    response = yield from send(Send("GET", _UPLOADS, params={"sha256": sha256}), retries)
    for upload in Page[Upload].model_validate(response.json()).data:
        same = {name: getattr(upload, name) or None for name in about} == {k: v or None for k, v in about.items()}
        if same and upload.bytes == size and part_bytes in {None, upload.part_bytes}:
            found = yield from send(Send("GET", f"{_UPLOADS}/{upload.id}"), retries)
            return Upload.model_validate(found.json())
    return None


def _measured(open_source: Callable[[], BinaryIO]) -> tuple[int, str]:
    """Size of a file and the sha256 (hex) of its bytes."""
    sha256, size = hashlib.sha256(), 0
    with open_source() as source:
        while block := source.read(_BLOCK):
            sha256.update(block)
            size += len(block)
    return size, sha256.hexdigest()
