"""The bytes of a source: digest, decompression, encoding, and caps on what comes out."""

from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import lzma
import tempfile
import zlib
from pathlib import Path
from typing import IO, Any, Final, NoReturn

from spice_select.errors import DatasetError
from spice_select.ingest.encodings import BINARY, Utf8Check, guessed_encoding, wide_encoding
from spice_select.ingest.manifest import Compression, IntakeLimits

CHUNK: Final = 2**20
HEAD: Final = 2**16
_MAGIC: Final[tuple[tuple[bytes, Compression], ...]] = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


class ByteSource:
    """A source file read once from front to back, decompressed, and as UTF-8 whatever its encoding is.

    Args:
        path: The file.
        limits: Caps on its size, on what comes out and on the ratio of the two.
        encoding: The encoding of a text, as its owner says; found when None.
        utf8_first: Whether text that is UTF-8 is read as such all the same.

    Attributes:
        total: Size of the file in bytes.
        sha256: Digest (hex) of the file.
        compression: How it is compressed, decided by its first bytes.
        head: The first bytes that come out, at most ``HEAD`` of them.
        warnings: What a person should know about compression and encoding.

    Raises:
        DatasetError: Empty, larger than allowed, or broken right at the start.
    """

    def __init__(
        self, path: Path, limits: IntakeLimits, encoding: str | None = None, *, utf8_first: bool = False
    ) -> None:
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
        self._stream: Any = self._file
        self._decoder: Any = None
        self._encoding = ""
        self._asked, self._utf8_first = encoding, utf8_first
        self._from_cr = False
        self.warnings: list[str] = []
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        start = self._file.read(8)
        self.compression: Compression = next((name for mark, name in _MAGIC if start.startswith(mark)), "none")
        if self.compression not in {"none", "gzip"}:
            self.warnings.append(f"the file was unpacked: it is {self.compression}")
        # Once through to the end first: an upload that was cut off, or a bomb, is found before any row is read.
        if self.compression != "none":
            self._file.seek(0)
            self.sha256 = hashlib.file_digest(self._file, "sha256").hexdigest()
        self._rewind()
        check, first, whole = Utf8Check(), True, hashlib.sha256()
        text = False
        while piece := self._read(CHUNK):
            if self.compression == "none":
                whole.update(piece)
            if first:
                wide = wide_encoding(piece)
                text, first = wide is None and not piece.startswith(BINARY) and b"\0" not in piece[:HEAD], False
                if wide is not None:
                    self._decode_as(wide)
                self._from_cr = text and b"\r" in piece[:HEAD] and b"\n" not in piece[:HEAD]
            if text:
                check.see(piece)
        if text:
            check.see(b"", last=True)
        if self.compression == "none":
            self.sha256 = whole.hexdigest()
        if self._asked is not None and text and (check.around or not self._utf8_first):
            self._encoding = self._asked
            self.warnings.append(f"the text was read as {self._asked}, as was asked for")
        elif check.around:
            guess = guessed_encoding(check.around)
            if guess is not None:
                self._decode_as(guess)
        if self._from_cr:
            self.warnings.append("lines end in carriage returns alone")
        self._rewind()
        self.head = b""
        while len(self.head) < HEAD and (piece := self._text(HEAD - len(self.head))):
            self.head += piece
        self._unread = self.head

    def _decode_as(self, encoding: str) -> None:
        self._encoding = encoding
        self.warnings.append(
            f"the text is not UTF-8 and was read as {encoding}, which was detected: send encoding if it is another"
        )

    def _rewind(self) -> None:
        if self.compression == "zstd":  # its stream closes the file below it
            self._file.close()
            self._file = self.path.open("rb")
        self._file.seek(0)
        self._decoded = 0
        if self._encoding:
            self._decoder = codecs.getincrementaldecoder(self._encoding)()
        if self.compression == "gzip":
            self._stream = gzip.GzipFile(fileobj=self._file, mode="rb")
        elif self.compression == "bzip2":
            self._stream = bz2.BZ2File(self._file)
        elif self.compression == "xz":
            self._stream = lzma.LZMAFile(self._file)  # ruff: ignore[open-file-with-context-handler] - see close()
        elif self.compression == "zstd":
            import pyarrow as pa

            self._stream = pa.CompressedInputStream(pa.PythonFile(self._file, mode="r"), "zstd")

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
        return self._text(size)

    def _text(self, size: int) -> bytes:
        """The next bytes as UTF-8.

        Raises:
            DatasetError: They are not in the encoding that the file seemed to be in.
        """
        if self._decoder is None:
            piece = self._read(size)
        else:
            piece = b""
            while not piece:
                raw = self._read(size)
                try:
                    piece = self._decoder.decode(raw, final=not raw).removeprefix("\ufeff").encode()
                except UnicodeError:
                    detail = f"the text is neither UTF-8 nor {self._encoding}; send its encoding, or save it as UTF-8"
                    raise DatasetError(detail, code="dataset-encoding") from None
                if not raw:
                    break
        return piece.replace(b"\r", b"\n") if self._from_cr else piece

    def _read(self, size: int) -> bytes:
        try:
            piece: bytes = self._stream.read(size)
        except EOFError:
            detail = f"the {self.compression} file is cut off before its end"
            raise DatasetError(detail, code="dataset-truncated") from None
        except (gzip.BadGzipFile, zlib.error, lzma.LZMAError):
            self._refuse_broken()
        except OSError as error:
            if error.errno is not None or self.compression == "none":
                raise
            if "runcated" in str(error):
                raise DatasetError(
                    f"the {self.compression} file is cut off before its end", code="dataset-truncated"
                ) from None
            self._refuse_broken()
        self._decoded += len(piece)
        limits = self._limits
        if self._decoded > limits.max_decoded_bytes:
            detail = f"more than {limits.max_decoded_bytes} bytes come out of the file"
            raise DatasetError(detail, code="dataset-too-large")
        if self._decoded > max(limits.ratio_free_bytes, limits.max_ratio * self._file.tell()):
            detail = f"the {self.compression} file expands to more than {limits.max_ratio} times its size"
            raise DatasetError(detail, code="dataset-too-large")
        return piece

    def _refuse_broken(self) -> NoReturn:
        detail = (
            f"the {self.compression} file is broken: a checksum does not match, or something that is not "
            f"{self.compression} follows it"
        )
        raise DatasetError(detail, code="dataset-unreadable") from None

    def plain_file(self) -> IO[bytes]:
        """The whole content as a file to be read in any order; unpacked to a temporary file when it is compressed."""
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
        if self._stream is not self._file:
            self._stream.close()
        self._file.close()
