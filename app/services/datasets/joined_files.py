"""Several files of rows as one archive, which the ingest reads one after the other."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from app.errors import ServiceError

NAME = "part-{:05d}"
"""Name of a file in the archive; says nothing of a split."""


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
    """
    count = 0
    with zipfile.ZipFile(target, "w") as archive:
        for path in paths:
            for part in _parts(path):
                # A fixed time: the clock must not decide the digest.
                member = zipfile.ZipInfo(NAME.format(count), (1980, 1, 1, 0, 0, 0))
                with part as source, archive.open(member, "w", force_zip64=True) as sink:
                    shutil.copyfileobj(source, sink, 2**20)
                count += 1
    size = target.stat().st_size
    if size > max_bytes:
        raise ServiceError("payload-too-large", f"with the new rows the data set is larger than {max_bytes} bytes")
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), size


def _parts(path: Path) -> Iterator[IO[bytes]]:
    """The files of an archive that was made here, or the file itself.

    Raises:
        ServiceError: ``dataset-not-kept``.
    """
    if not zipfile.is_zipfile(path):
        yield path.open("rb")
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if "[Content_Types].xml" in names:  # a workbook
            yield path.open("rb")
            return
        if names != [NAME.format(number) for number in range(len(names))]:
            raise ServiceError("dataset-not-kept", "rows cannot be appended to or from an archive: send its files")
        for name in names:
            yield archive.open(name)
