"""What routes are handed: services of this process, the caller's project, paging parameters."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

from fastapi import Depends, Header, Query, Request

from app.errors import ServiceError
from app.ids import DEFAULT_PROJECT
from app.services.datasets import DatasetService
from app.services.idempotency import parse_key
from app.services.jobs import JobService
from app.settings import Settings
from app.storage import ArtifactStore


def settings(request: Request) -> Settings:
    """Settings of this process."""
    found: Settings = request.app.state.settings
    return found


def store(request: Request) -> ArtifactStore:
    """Artifacts."""
    found: ArtifactStore = request.app.state.store
    return found


def datasets(request: Request) -> DatasetService:
    """Use cases of data sets."""
    found: DatasetService = request.app.state.datasets
    return found


def jobs(request: Request) -> JobService:
    """Use cases of jobs."""
    found: JobService = request.app.state.jobs
    return found


def project() -> str:
    """The caller's project: this version knows one."""
    return DEFAULT_PROJECT


def idempotency_key(
    header: Annotated[
        str | None,
        Header(alias="Idempotency-Key", description="Makes the call safe to repeat: 1 to 255 visible characters."),
    ] = None,
) -> str | None:
    """The checked Idempotency-Key of the request."""
    return parse_key(header)


POSITION = re.compile(r"[a-z]+_[0-9A-Z]{26}|-?[0-9]{1,19}")
"""What a cursor holds: an id or a number."""


class CursorError(ServiceError):
    """A cursor that is none of ours."""

    def __init__(self) -> None:
        detail = "after: not a cursor of this list"
        super().__init__("validation-error", detail, errors=[{"detail": detail, "parameter": "after", "in": "query"}])


def encode_cursor(position: str | int) -> str:
    """An opaque cursor: clients must not read or make it."""
    return base64.urlsafe_b64encode(str(position).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """The position in a cursor of ours.

    Raises:
        CursorError: It is none.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise CursorError from error
    if not POSITION.fullmatch(text):
        raise CursorError
    return text


def number_cursor(cursor: str | None, start: int) -> int:
    """The number in a cursor, or ``start`` without one.

    Raises:
        CursorError: It holds no number.
    """
    if cursor is None:
        return start
    text = decode_cursor(cursor)
    try:
        number = int(text)
    except ValueError as error:
        raise CursorError from error
    if not -1 <= number < 2**62:
        raise CursorError
    return number


Limit = Annotated[int, Query(ge=1, le=1000, description="Most entries of one page.")]
After = Annotated[str | None, Query(max_length=200, description="Cursor: `next_cursor` of the page before.")]
Project = Annotated[str, Depends(project)]
DatasetsDep = Annotated[DatasetService, Depends(datasets)]
JobsDep = Annotated[JobService, Depends(jobs)]
StoreDep = Annotated[ArtifactStore, Depends(store)]
SettingsDep = Annotated[Settings, Depends(settings)]
KeyDep = Annotated[str | None, Depends(idempotency_key)]
