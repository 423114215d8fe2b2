"""Fetch a file: a broken connection costs only what was on the wire, a wrong byte is never taken for a right one."""

# ruff: file-ignore[return-in-generator] - an operation yields its steps and returns its result

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import httpx

from spice_select.client.models import File
from spice_select.client.retry import Operation, Send, send
from spice_select.errors import ClientError, ConnectionFailedError


def download_file(
    path: str, file: File, target: Path, retries: int, on_bytes: Callable[[File, int], object] | None
) -> Operation[Path]:
    """Fetch one file, going on where a broken connection left off, and check its digest before it gets its name.

    What has come lies beside the target under a name that holds the digest, so that a later call goes on with it
    and never with the bytes of another file.

    Args:
        path: Path below the base URL.
        file: What the service says about it.
        target: Where it goes.
        retries: How many times in a row a request may fail without bringing anything.
        on_bytes: Told the bytes there are so far, after each piece.

    Raises:
        ClientError: The bytes do not have the digest that the service states.
    """
    if target.exists() and target.stat().st_size == file.bytes and sha256_of(target) == file.sha256:
        return target
    partial = target.with_name(f".{target.name}.{file.sha256[:16]}.partial")
    while True:
        with partial.open("ab") as sink:
            earlier = sink.tell()
            if earlier < file.bytes:
                yield from _append(path, sink, file, retries, on_bytes)
        digest = sha256_of(partial)
        if digest == file.sha256:
            partial.replace(target)
            return target
        partial.unlink()
        if not earlier:
            raise ClientError(
                f"{file.name}: what came has sha256 {digest}, not {file.sha256}",
                code="digest-mismatch",
                retryable=True,
            )
        # Part of it came from an earlier call: once more, from the start.


def _append(
    path: str, sink: BinaryIO, file: File, retries: int, on_bytes: Callable[[File, int], object] | None
) -> Operation[None]:
    def headers() -> dict[str, str]:
        # Encoded bytes would have other offsets.
        whole = {"Accept-Encoding": "identity"}
        here = sink.tell()
        return {**whole, "Range": f"bytes={here}-", "If-Range": f'"{file.sha256}"'} if here else whole

    def begin(status: int) -> None:
        # 200 in place of 206: the whole file comes, from its beginning.
        if status == httpx.codes.OK:
            sink.seek(0)
            sink.truncate()

    def take(chunk: bytes) -> None:
        sink.write(chunk)
        if on_bytes is not None:
            on_bytes(file, sink.tell())

    request = Send("GET", path, late_headers=headers, on_status=begin, sink=take)
    while True:
        reached = sink.tell()
        try:
            yield from send(request, retries)
            return
        except ConnectionFailedError:
            if sink.tell() <= reached:
                raise


def sha256_of(path: Path) -> str:
    """Digest (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
