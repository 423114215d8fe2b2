"""Several files of rows as one archive, which the ingest reads one after the other."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from app.errors import ServiceError

NAME = "part-{:05d}"
"""Name of a file in the archive; says nothing of a split."""
BLOCK = 2**20
"""Bytes that are copied at a time."""
NOT_KEPT = ServiceError("dataset-not-kept", "rows cannot be appended to or from an archive: send its files")
_BROKEN = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, ValueError)
"""What the reader of archives raises on broken, encrypted and strange ones."""


def join_files(paths: Sequence[Path], target: Path, max_bytes: int) -> tuple[str, int]:
    """Put files into a zip archive, uncompressed; the same files always give the same bytes.

    An archive that was made here gives its own files, so that a version of a version is one archive too.

    Args:
        paths: The files, in order.
        target: Where the archive goes.
        max_bytes: Largest archive.

    Returns:
        Digest (hex) and size of the archive.

    Raises:
        ServiceError: ``payload-too-large``, or ``dataset-not-kept`` for somebody else's archive.
    """  # ruff: ignore[docstring-extraneous-exception] - raised as constants
    too_large = ServiceError("payload-too-large", f"with the new rows the data set is larger than {max_bytes} bytes")
    count = written = 0
    with zipfile.ZipFile(target, "w") as archive:
        for path in paths:
            for part in _parts(path):
                # A fixed time: the clock must not decide the digest.
                member = zipfile.ZipInfo(NAME.format(count), (1980, 1, 1, 0, 0, 0))
                with part as source, archive.open(member, "w", force_zip64=True) as sink:
                    while block := _read(source):
                        written += len(block)
                        if written > max_bytes:
                            raise too_large
                        sink.write(block)
                count += 1
    size = target.stat().st_size
    if size > max_bytes:
        raise too_large
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), size


def _read(source: IO[bytes]) -> bytes:
    try:
        return source.read(BLOCK)
    except _BROKEN as error:
        raise NOT_KEPT from error


def _parts(path: Path) -> Iterator[IO[bytes]]:
    """The files of an archive that was made here, or the file itself.

    Only what starts as an archive is one: rows may end in the marks of an archive's end. Ours hold their files as
    they are, so that nothing has to be unpacked, and an archive of 400 KB cannot become 400 MB.

    Raises:
        ServiceError: ``dataset-not-kept``.
    """  # ruff: ignore[docstring-extraneous-exception] - NOT_KEPT
    with path.open("rb") as file:
        is_archive = file.read(4) in {b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"}
    if not is_archive:
        yield path.open("rb")
        return
    try:
        archive = zipfile.ZipFile(path)
    except _BROKEN as error:
        raise NOT_KEPT from error
    with archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if "[Content_Types].xml" in names:  # a workbook
            yield path.open("rb")
            return
        plain = all(member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1 for member in members)
        if not names or not plain or names != [NAME.format(number) for number in range(len(names))]:
            raise NOT_KEPT
        for name in names:
            try:
                part = archive.open(name)
            except _BROKEN as error:
                raise NOT_KEPT from error
            yield part
