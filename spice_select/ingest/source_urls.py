"""Where a data set can be fetched from, as a client names it: one definition for body, row and client. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from spice_select.config import Model
from spice_select.errors import ConfigError


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


AnySource: TypeAlias = FileSource | HubSource | HttpsSource | S3Source
Source = Annotated[AnySource, Field(discriminator="type")]
SOURCE_TYPES: frozenset[str] = frozenset(
    name for kind in get_args(AnySource) for name in get_args(kind.model_fields["type"].annotation)
)
_ADAPTER: TypeAdapter[AnySource] = TypeAdapter(Source)
_HUB = "hf://datasets/"

_DATA = re.compile(r".+\.((jsonl|ndjson|json|csv|tsv|txt|parquet)(\.(gz|zst|bz2|xz))?|arrow|xlsx|zip)", re.IGNORECASE)
_ABOUT = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})


def is_data_file(name: str) -> bool:
    """Whether a file of a folder is taken for data, by its name: a folder may hold a README too."""
    return not name.startswith(".") and name not in _ABOUT and _DATA.fullmatch(name) is not None


def is_address(text: str) -> bool:
    """Whether a text names a source, rather than a file here or the id of a data set."""
    return text.startswith(("hf://", "https://", "s3://", "file:"))


def parse_source(given: str | Mapping[str, Any] | AnySource) -> AnySource:
    """A source as somebody wrote it down.

    Args:
        given: ``hf://datasets/ORG/NAME@REVISION``, ``https://...``, ``s3://BUCKET/KEY``, ``file:PATH`` (of the
            service), the fields of a source as a mapping, or a source.

    Raises:
        ConfigError: It is none.
    """
    fields: Any = given
    if isinstance(given, str):
        if not is_address(given):
            raise ConfigError(f"{given[:100]!r} is no address: write hf://datasets/..., https://, s3:// or file:PATH")
        if given.startswith("hf://"):
            repo, _, revision = given.removeprefix(_HUB).partition("@")
            fields = {"type": "hf", "repo": repo, **({"revision": revision} if revision else {})}
        elif given.startswith("file:"):
            fields = {"type": "file", "path": given.removeprefix("file:").removeprefix("//")}
        else:
            fields = {"type": given.partition("://")[0], "url": given}
    try:
        return _ADAPTER.validate_python(dict(fields) if isinstance(fields, Mapping) else fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(str(part) for part in first["loc"][1:])
        raise ConfigError(f"source {where}: {first['msg']}", pointer=f"#/source/{where}") from error


def shown(source: AnySource) -> str:
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
