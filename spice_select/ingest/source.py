"""The bytes of a source: digest, gzip, and caps on what comes out."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import zlib
from pathlib import Path
from typing import IO, Final

from spice_select.errors import DatasetError
from spice_select.ingest.manifest import Compression, IntakeLimits

CHUNK: Final = 2**20
HEAD: Final = 2**16
_GZIP_MAGIC: Final = b"\x1f\x8b"


class ByteSource:
    """A source file read once from front to back, decompressed when it is gzip.

    Args:
        path: The file.
        limits: Caps on its size, on what comes out and on the ratio of the two.

    Attributes:
        total: Size of the file in bytes.
        sha256: Digest (hex) of the file.
        compression: How it is compressed, decided by its first bytes.
        head: The first bytes that come out, at most ``HEAD`` of them.

    Raises:
        DatasetError: Empty, larger than allowed, or broken right at the start.
    """

    def __init__(self, path: Path, limits: IntakeLimits) -> None:
        self.path = path
        self.total = path.stat().st_size
        if self.total == 0:
            raise DatasetError("the file is empty", code="dataset-empty")
        if self.total > limits.max_bytes:
            raise DatasetError(
                f"the file has {self.total} bytes, the limit is {limits.max_bytes}", code="dataset-too-large"
            )
        self._limits = limits
        self._decoded = 0
        self._unpacked: IO[bytes] | None = None
        self._file = path.open("rb")
        self._stream: gzip.GzipFile | IO[bytes] = self._file
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        self.sha256 = hashlib.file_digest(self._file, "sha256").hexdigest()
        self._file.seek(0)
        self.compression: Compression = "gzip" if self._file.read(2) == _GZIP_MAGIC else "none"
        if self.compression == "gzip":
            # Once through to the end first: an upload that was cut off, or a bomb, is found before any row is read.
            self._rewind()
            while self._read(CHUNK):
                pass
        self._rewind()
        self.head = b""
        while len(self.head) < HEAD and (piece := self._read(HEAD - len(self.head))):
            self.head += piece
        self._unread = self.head

    def _rewind(self) -> None:
        self._file.seek(0)
        self._decoded = 0
        if self.compression == "gzip":
            self._stream = gzip.GzipFile(fileobj=self._file, mode="rb")

    @property
    def done(self) -> int:
        """Bytes of the file taken so far."""
        return min(self._file.tell(), self.total)

    @property
    def decoded(self) -> int:
        """Bytes that have come out so far."""
        return self._decoded

    def skip(self, count: int) -> None:
        """Leave out the first bytes; only before the first ``read`` and at most the head."""
        self._unread = self._unread[count:]

    def read(self, size: int = CHUNK) -> bytes:
        """The next bytes, at most about ``size``; nothing at the end.

        Raises:
            DatasetError: More comes out than the limits allow, or the gzip stream is cut off or broken.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by _read()
        if self._unread:
            piece, self._unread = self._unread, b""
            return piece
        return self._read(size)

    def _read(self, size: int) -> bytes:
        try:
            piece = self._stream.read(size)
        except EOFError:
            raise DatasetError("the gzip file is cut off before its end", code="dataset-truncated") from None
        except (gzip.BadGzipFile, zlib.error):
            detail = "the gzip file is broken: a checksum does not match, or something that is not gzip follows it"
            raise DatasetError(detail, code="dataset-unreadable") from None
        self._decoded += len(piece)
        limits = self._limits
        if self._decoded > limits.max_decoded_bytes:
            detail = f"more than {limits.max_decoded_bytes} bytes come out of the file"
            raise DatasetError(detail, code="dataset-too-large")
        if self._decoded > max(limits.ratio_free_bytes, limits.max_ratio * self._file.tell()):
            detail = f"the gzip file expands to more than {limits.max_ratio} times its size"
            raise DatasetError(detail, code="dataset-too-large")
        return piece

    def plain_file(self) -> IO[bytes]:
        """The whole content as a file that can be read in any order; unpacked to a temporary file when it is gzip."""
        if self.compression == "none":
            self._file.seek(0)
            return self._file
        self._unpacked = tempfile.TemporaryFile("w+b")  # ruff: ignore[open-file-with-context-handler] - see close()
        while piece := self.read():
            self._unpacked.write(piece)
        return self._unpacked

    def close(self) -> None:
        """Let go of the file."""
        if self._unpacked is not None:
            self._unpacked.close()
        self._stream.close()
        self._file.close()
