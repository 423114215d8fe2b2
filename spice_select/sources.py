"""Where a data set can be fetched from, as a client names it: one definition for body, row and client. No I/O."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field

from spice_select.config import Model


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("control characters are not allowed")
    return text


def _straight(path: str) -> str:
    if ".." in path.split("/"):
        raise ValueError("'..' is not allowed in a path")
    return path


Path: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=1000), AfterValidator(_printable), AfterValidator(_straight)
]


class FileSource(Model):
    """A file, or the data files of a folder, on a disk that the service sees."""

    type: Literal["file"]
    path: Path
    """Below one of the service's roots: absolute, or counted from a root."""


class HubSource(Model):
    """A data set of the Hugging Face hub."""

    type: Literal["hf"]
    repo: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$")]
    revision: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$"), AfterValidator(_straight)] = "main"
    """Branch, tag or commit; the commit that it stands for is kept."""
    config: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)] | None = None
    """Configuration, where the data set has several."""
    split: Annotated[str, Field(pattern=r"^\w+(\.\w+)*$", max_length=200)] = "train"


class HttpsSource(Model):
    """A file behind a public https address."""

    type: Literal["https"]
    url: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_printable)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Digest (hex) that its bytes must have."""


class S3Source(Model):
    """An object of an S3 bucket; an address that ends in ``/`` means the data files below it."""

    type: Literal["s3"]
    url: Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+$", max_length=1100),
                   AfterValidator(_printable), AfterValidator(_straight)]  # fmt: skip


Source = Annotated[FileSource | HubSource | HttpsSource | S3Source, Field(discriminator="type")]

_DATA = re.compile(r".+\.(jsonl|ndjson|json|csv|tsv|parquet)(\.gz)?", re.IGNORECASE)


def is_data_file(name: str) -> bool:
    """Whether a file of a folder is taken for data, by its name: a folder may hold a README too."""
    return not name.startswith(".") and _DATA.fullmatch(name) is not None


def shown(source: FileSource | HubSource | HttpsSource | S3Source) -> str:
    """The address of a source without what may be secret in it."""
    if isinstance(source, HubSource):
        return f"hf://datasets/{source.repo}@{source.revision}"
    if isinstance(source, HttpsSource):
        return without_secrets(source.url)
    return source.url if isinstance(source, S3Source) else f"file:{source.path}"


def without_secrets(url: str) -> str:
    """A URL without user, password, query and fragment."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"
