"""A file on its way: what has come is kept, and the rest is asked for with a range request."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import httpx

from spice_select.client.models import File

OnFileBytes = Callable[[File, int], object]
"""Called with the file and how many of its bytes have come."""


class PartialFile:
    """The bytes of a file so far.

    Args:
        sink: Open for appending.
        file: What the service says about it.
        on_bytes: Called after each piece.
    """

    def __init__(self, sink: BinaryIO, file: File, on_bytes: OnFileBytes | None) -> None:
        self._sink, self._file, self._on_bytes = sink, file, on_bytes

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._sink.tell()

    def headers(self) -> dict[str, str]:
        """Headers that ask for the rest."""
        # Encoded bytes would have other offsets.
        whole = {"Accept-Encoding": "identity"}
        return {**whole, "Range": f"bytes={self.size}-", "If-Range": f'"{self._file.sha256}"'} if self.size else whole

    def begin(self, status: int) -> None:
        """Start over if the answer is the whole file: 200 in place of 206."""
        if status == httpx.codes.OK:
            self._sink.seek(0)
            self._sink.truncate()

    def write(self, chunk: bytes) -> None:
        """Add a piece."""
        self._sink.write(chunk)
        if self._on_bytes is not None:
            self._on_bytes(self._file, self.size)


def sha256_of(path: Path) -> str:
    """Digest (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
