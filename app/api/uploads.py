"""Receiving a data set: multipart or raw body, streamed to disk and hashed on the way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from app.api.problems import BodyError
from app.api.schemas.datasets import DatasetCreate
from app.api.schemas.fields import Metadata, Name
from app.errors import ServiceError
from app.services.datasets import Upload
from spice_select.intake import IntakeOptions

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

    Attributes:
        upload: The received file.
        name: What to call the data set.
        requested: ``format`` and ``columns``, where given.
        metadata: The client's own key-values.
    """

    def __init__(self, upload: Upload, fields: dict[str, str]) -> None:
        self.upload = upload
        self.name: str | None = _checked(TypeAdapter(Name), fields["name"], "name") if fields.get("name") else None
        options: dict[str, Any] = {}
        if fields.get("format"):
            options["format"] = fields["format"]
        if fields.get("columns"):
            options["columns"] = _json(fields["columns"], "columns")
        checked = _checked(TypeAdapter(IntakeOptions), options, "columns")
        self.requested: dict[str, Any] = checked.model_dump(exclude_none=True)
        metadata = _json(fields["metadata"], "metadata") if fields.get("metadata") else {}
        self.metadata: dict[str, str] = _checked(TypeAdapter(Metadata), metadata, "metadata")


async def receive(request: Request, folder: Path, max_bytes: int, max_body_bytes: int) -> Form | DatasetCreate:
    """Stream the request's file into a folder, unless the request names a source instead.

    Args:
        request: A ``POST`` with a multipart or raw body.
        folder: Scratch folder.
        max_bytes: Largest file.
        max_body_bytes: Longest JSON that is looked at for a source.

    Returns:
        The file and the fields that came with it, or the source.

    Raises:
        ServiceError: ``unsupported-media-type``, ``validation-error``, ``malformed-request``, ``dataset-empty`` or
            ``payload-too-large``.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    path = folder / "upload"
    if media_type == "multipart/form-data":
        fields, upload = await _multipart(request, path, max_bytes)
    elif media_type in RAW_TYPES or not media_type:
        fields = {
            key: request.query_params[key] for key in ("name", "format", "columns") if key in request.query_params
        }
        stream, held = request.stream(), b""
        if media_type == "application/json":
            held, whole = await _held(stream, max_body_bytes)
            if whole and _names_source(held):
                request._body = held
                return _source_request(await request.json())
        writer = Writer(path, max_bytes)
        writer.write(held)
        async for chunk in stream:
            writer.write(chunk)
        upload = writer.close()
    else:
        raise ServiceError("unsupported-media-type", f"a data set cannot be sent as {media_type[:100]}")
    if upload.bytes == 0:
        raise ServiceError("dataset-empty", "the file has no bytes", pointer="#/file")
    return Form(upload, fields)


async def _held(stream: AsyncIterator[bytes], most: int) -> tuple[bytes, bool]:
    """The start of a body that may be a request in JSON, and whether that is all of it."""
    held = b""
    async for chunk in stream:
        held += chunk
        if len(held) > most or held.lstrip(b" \t\r\n")[:1] not in {b"{", b""}:
            return held, False
    return held, True


def _names_source(body: bytes) -> bool:
    """Whether a body is an object with a ``source`` that is an object: a record of training data has none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and isinstance(value.get("source"), dict)


def _source_request(value: Any) -> DatasetCreate:
    try:
        return DatasetCreate.model_validate(value)
    except ValidationError as error:
        findings = error.errors(include_input=False, include_url=False)
        kinds = {"file", "hf", "https", "s3"}  # the validator's own step, not one of the document
        raise RequestValidationError(
            [{**found, "loc": ("body", *(s for i, s in enumerate(found["loc"]) if i != 1 or s not in kinds))}
             for found in findings]
        ) from error  # fmt: skip


class Writer:
    """Writes blocks to a file, counting and hashing.

    Args:
        path: The file.
        max_bytes: Most bytes of it.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path, self.max_bytes = path, max_bytes
        self.handle = path.open("wb")
        self.hash = hashlib.sha256()
        self.bytes = 0

    def write(self, chunk: bytes) -> None:
        """Add a block.

        Raises:
            BodyError: ``payload-too-large``.
        """
        self.bytes += len(chunk)
        if self.bytes > self.max_bytes:
            self.handle.close()
            raise BodyError("payload-too-large", f"the file is larger than {self.max_bytes} bytes")
        self.handle.write(chunk)
        self.hash.update(chunk)

    def close(self) -> Upload:
        """End the file."""
        self.handle.close()
        return Upload(self.path, self.hash.hexdigest(), self.bytes)


async def _multipart(request: Request, path: Path, max_bytes: int) -> tuple[dict[str, str], Upload]:
    try:
        form = await request.form(max_files=1, max_fields=8, max_part_size=64 * 1024)
    except MultiPartException as error:
        raise ServiceError("malformed-request", f"the multipart body cannot be read: {error.message}") from error
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise ServiceError("validation-error", "the part `file` is missing", pointer="#/file")
        fields: dict[str, str] = {}
        for key, value in form.items():
            if key == "file":
                continue
            if key not in {"name", "format", "columns", "metadata"} or not isinstance(value, str):
                raise ServiceError("validation-error", f"unknown part {key[:100]!r}", pointer="#/" + key[:100])
            fields[key] = value
        writer = Writer(path, max_bytes)
        while chunk := await file.read(BLOCK_BYTES):
            writer.write(chunk)
        if not fields.get("name") and file.filename:
            fields["name"] = "".join(c for c in Path(file.filename).name if c.isprintable())[:200]
        return fields, writer.close()
    finally:
        await form.close()


def _json(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ServiceError("validation-error", f"{field} is not JSON", pointer=f"#/{field}") from error


def _checked(adapter: TypeAdapter[Any], value: Any, field: str) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        findings = []
        for finding in error.errors(include_input=False, include_url=False):
            parts = [str(part) for part in finding["loc"]]
            where = "/".join(parts) if field == "columns" and parts else "/".join([field, *parts])
            findings.append({"detail": finding["msg"].removeprefix("Value error, "), "pointer": f"#/{where}"})
        raise ServiceError("validation-error", findings[0]["detail"], errors=findings) from error
