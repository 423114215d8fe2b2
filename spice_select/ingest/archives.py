"""Which files of a folder or an archive are data, and which of them are read."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from spice_select.errors import DatasetError
from spice_select.ingest.manifest import IntakeLimits

_NUMBER: Final = re.compile(r"^[0-9]{5}-(?=.)")
_ABOUT: Final = re.compile(
    r"(^|[/_])(dataset_info|dataset_infos|dataset_dict|state|croissant|package|metadata)\.json$"
    r"|(^|[/_])(readme|licen[cs]e|notice|changelog|copying)[^/]*$|\.(md|rst|pdf|py|ipynb|ya?ml|toml|html|sha256)$"
    r"|(^|/)(\.|__MACOSX/)",
    re.IGNORECASE,
)
_SPLIT: Final = re.compile(
    r"(?:^|[/_.\-])(train|training|test|testing|validation|valid|val|dev|eval)(?=$|[/_.\-])", re.I
)
_NAMES: Final = {
    "training": "train", "testing": "test", "valid": "validation", "val": "validation", "dev": "validation",
    "eval": "validation",
}  # fmt: skip


def shown_name(file: Path, root: Path) -> str:
    """What people call a file of a source: its path below the folder, without the number that orders it."""
    name = file.relative_to(root).as_posix() if file != root else file.name
    return _NUMBER.sub("", name)


def data_files(root: Path, split: str | None, warnings: list[str]) -> list[Path]:
    """The files of a folder that are read, in order.

    Args:
        root: The folder.
        split: The split that is asked for; ``all`` for every file. By default ``train`` where splits have names.
        warnings: What was left out is added.

    Raises:
        DatasetError: No file of the split that is asked for.
    """
    files = sorted(file for file in root.rglob("*") if file.is_file())
    data = [file for file in files if not _ABOUT.search(shown_name(file, root))] or files
    splits = {file: _split_of(shown_name(file, root)) for file in data}
    names = {name for name in splits.values() if name is not None}
    if split is None and (len(names) < 2 or "train" not in names):
        return data
    wanted = split or "train"
    if wanted == "all":
        return data
    kept = [file for file in data if splits[file] == wanted]
    if not kept:
        raise DatasetError(
            f"no file of the split {wanted}; there is {_listed(names) or 'none with a name'}", code="dataset-empty"
        )
    left = [shown_name(file, root) for file in data if file not in kept]
    if left:
        warnings.append(
            f"only the split {wanted} is read; left out: {_listed(left)}; send split to read another, or all"
        )
    return kept


def is_archive(path: Path) -> bool:
    """Whether a file begins as a zip archive, which an Excel workbook does too."""
    with path.open("rb") as file:
        return file.read(4) in {b"PK\x03\x04", b"PK\x05\x06"}


def unpacked(path: Path, target: Path, limits: IntakeLimits) -> Path | None:
    """The data of a zip archive as a folder; None for an Excel workbook.

    Args:
        path: A zip archive.
        target: An empty folder for what comes out.
        limits: Caps on what comes out.

    Raises:
        DatasetError: Too much comes out, the archive is broken, needs a password or holds nothing.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if any(member.filename == "[Content_Types].xml" for member in members):
                return None
            check_archive(members, path.stat().st_size, limits)
            for number, member in enumerate(members):
                if _ABOUT.search(member.filename):
                    continue
                name = re.sub(r"[^A-Za-z0-9._/-]", "_", member.filename).replace("/", "_")[-100:]
                with archive.open(member) as source, (target / f"{number:05d}-{name}").open("wb") as sink:
                    shutil.copyfileobj(source, sink, 2**20)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise DatasetError(f"the zip archive cannot be read: {str(error)[:100]}", code="dataset-unreadable") from None
    if not any(target.iterdir()):
        raise DatasetError("the zip archive holds no data file", code="dataset-empty")
    return target


def check_archive(members: Iterable[zipfile.ZipInfo], size: int, limits: IntakeLimits) -> None:
    """Refuse an archive that unpacks to more than the limits allow.

    Args:
        members: What it holds.
        size: Its own size in bytes.
        limits: Caps.

    Raises:
        DatasetError: ``dataset-too-large``.
    """
    total = sum(member.file_size for member in members)
    if total > limits.max_decoded_bytes or total > max(limits.ratio_free_bytes, limits.max_ratio * size):
        raise DatasetError(f"the archive unpacks to {total} bytes, more than allowed", code="dataset-too-large")


def _split_of(name: str) -> str | None:
    found = _SPLIT.search(name)
    return None if found is None else _NAMES.get(found[1].lower(), found[1].lower())


def _listed(names: Iterable[str]) -> str:
    few = sorted(names)
    return ", ".join(ascii(name[:60]) for name in few[:10]) + (f" and {len(few) - 10} more" if len(few) > 10 else "")
