"""Receiving a data set: multipart or raw body, streamed to disk and hashed on the way."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Self

from fastapi import Request
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from app.api.dataset_json import read_json
from app.api.middleware import strict_json
from app.api.problems import BodyError, pointer_of, pointer_to
from app.api.schemas.datasets import DatasetCreate
from app.api.schemas.fields import Metadata, Name
from app.errors import ServiceError
from app.services.datasets.service import Upload
from spice_select.ingest import IntakeOptions

RAW_TYPES = {
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/json",
    "application/x-jsonlines",
    "text/csv",
    "text/plain",
    "application/csv",
    "application/vnd.apache.parquet",
    "application/x-parquet",
    "application/gzip",
    "application/x-gzip",
    "application/octet-stream",
    "application/x-www-form-urlencoded",  # what curl --data-binary says when nobody tells it otherwise
}
BLOCK_BYTES = 2**20


class Form:
    """What came with the file.

    Args:
        upload: The received file.
        fields: What was said of it.
        in_query: Whether that stood in the query of the address, and not in parts beside the file.

    Attributes:
        upload: The received file.
        name: What to call the data set.
        requested: ``format`` and ``columns``, where given.
        metadata: The client's own key-values.
    """

    def __init__(self, upload: Upload, fields: dict[str, str], *, in_query: bool) -> None:
        self.upload = upload
        self._in_query = in_query
        given = {name: value for name, value in fields.items() if value}
        self.name: str | None = self._checked(TypeAdapter(Name), given["name"], "name") if "name" in given else None
        options: dict[str, Any] = {"format": given["format"]} if "format" in given else {}
        if "encoding" in given:
            options["encoding"] = given["encoding"]
        if "columns" in given:
            options["columns"] = self._json(given["columns"], "columns")
        checked = self._checked(TypeAdapter(IntakeOptions), options)
        self.requested: dict[str, Any] = checked.model_dump(exclude_none=True)
        metadata = self._json(given["metadata"], "metadata") if "metadata" in given else {}
        self.metadata: dict[str, str] = self._checked(TypeAdapter(Metadata), metadata, "metadata")

    def _json(self, text: str, field: str) -> Any:
        try:
            return strict_json(text.encode("utf-8", "surrogatepass"))
        except BodyError as error:
            detail = error.detail.replace("the body", field, 1)
            raise ServiceError("validation-error", detail, errors=[self._finding(detail, (field,), {})]) from error

    def _checked(self, adapter: TypeAdapter[Any], value: Any, field: str | None = None) -> Any:
        """The value as the adapter reads it; of a field, or of all of them together.

        Raises:
            ServiceError: ``validation-error``.
        """
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            above, body = ((), value) if field is None else ((field,), {field: value})
            findings = [
                self._finding(finding["msg"].removeprefix("Value error, "), (*above, *finding["loc"]), body)
                for finding in error.errors(include_input=False, include_url=False)
            ]
            raise ServiceError("validation-error", findings[0]["detail"], errors=findings) from error

    def _finding(self, detail: str, location: tuple[int | str, ...], body: Any) -> dict[str, Any]:
        if self._in_query:
            return {"detail": detail, "parameter": str(location[0]), "in": "query"}
        return {"detail": detail, "pointer": pointer_of(("body", *location), body, missing=len(location) == 1)}


async def receive(
    request: Request, folder: Path, max_bytes: int, max_body_bytes: int, *, named_by_file: bool = True
) -> Form | DatasetCreate:
    """Stream the request's file into a folder, unless the request names a source instead.

    Args:
        request: A ``POST`` with a multipart or raw body.
        folder: Scratch folder.
        max_bytes: Largest file.
        max_body_bytes: Longest JSON that may name a source.
        named_by_file: Whether a data set without a name takes that of the file.

    Returns:
        The file and the fields that came with it, or the source.

    Raises:
        ServiceError: ``unsupported-media-type``, ``validation-error``, ``malformed-request``, ``dataset-empty`` or
            ``payload-too-large``.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    path, in_query = folder / "upload", media_type != "multipart/form-data"
    if not in_query:
        fields, upload = await _multipart(request, path, max_bytes, named_by_file=named_by_file)
    elif media_type in RAW_TYPES or not media_type:
        fields = {
            key: request.query_params[key]
            for key in ("name", "format", "columns", "encoding")
            if key in request.query_params
        }
        stream, held = request.stream(), b""
        if media_type == "application/json":
            held, asked = await read_json(stream, max_body_bytes)
            if asked is not None:
                return asked
        with Writer(path, max_bytes) as writer:
            writer.write(held)
            async for chunk in stream:
                writer.write(chunk)
            upload = writer.close()
    else:
        raise ServiceError("unsupported-media-type", f"a data set cannot be sent as {media_type[:100]}")
    if upload.bytes == 0:
        raise ServiceError("dataset-empty", "the file has no bytes", pointer="#/file")
    return Form(upload, fields, in_query=in_query)


def rows_alone(received: Form | DatasetCreate) -> Form:
    """A file that came without words on how to read it.

    Args:
        received: What came.

    Raises:
        ServiceError: ``validation-error`` for a source, or where there are such words.
    """
    if isinstance(received, DatasetCreate):
        raise ServiceError("validation-error", "send the new rows themselves", pointer="#/source")
    if received.requested:
        detail = "the new rows are read as those of the data set"
        raise ServiceError("validation-error", detail, pointer=f"#/{next(iter(received.requested))}")
    return received


class Writer:
    """Writes blocks to a file, counting and hashing; the file is closed however the block ends.

    Args:
        path: The file.
        max_bytes: Most bytes of it.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path, self.max_bytes = path, max_bytes
        self.handle = path.open("wb")
        self.hash = hashlib.sha256()
        self.bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.close()

    def write(self, chunk: bytes) -> None:
        """Add a block.

        Raises:
            BodyError: ``payload-too-large``.
        """
        self.bytes += len(chunk)
        if self.bytes > self.max_bytes:
            raise BodyError("payload-too-large", f"the file is larger than {self.max_bytes} bytes")
        self.handle.write(chunk)
        self.hash.update(chunk)

    def close(self) -> Upload:
        """End the file."""
        self.handle.close()
        return Upload(self.path, self.hash.hexdigest(), self.bytes)


async def _multipart(
    request: Request, path: Path, max_bytes: int, *, named_by_file: bool
) -> tuple[dict[str, str], Upload]:
    try:
        form = await request.form(max_files=1, max_fields=8, max_part_size=64 * 1024)
    except MultiPartException as error:
        raise ServiceError("malformed-request", f"the multipart body cannot be read: {error.message}") from error
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise ServiceError("validation-error", "the part `file` is missing", pointer="#/file")
        fields: dict[str, str] = {}
        for key, value in form.multi_items():
            if value is file:
                continue
            if key not in {"name", "format", "columns", "encoding", "metadata"} or not isinstance(value, str):
                problem = "the part `file` comes twice" if key == "file" else f"unknown part {key[:100]!r}"
                raise ServiceError("validation-error", problem, pointer=pointer_to(key[:100]))
            if key in fields:
                raise ServiceError("validation-error", f"the part `{key}` comes twice", pointer=pointer_to(key))
            fields[key] = value
        with Writer(path, max_bytes) as writer:
            while chunk := await file.read(BLOCK_BYTES):
                writer.write(chunk)
        if named_by_file and not fields.get("name") and file.filename:
            fields["name"] = "".join(c for c in Path(file.filename).name if c.isprintable())[:200]
        return fields, writer.close()
    finally:
        await form.close()
