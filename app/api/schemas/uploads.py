"""Files that are sent in parts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas.fields import Metadata, Name
from app.api.schemas.files import Digest
from app.services.datasets.uploads import LARGEST_PART_BYTES, PART_BYTES, UploadRequest
from app.status import UploadStatus
from spice_select.ingest import IntakeOptions


class UploadCreate(IntakeOptions):
    """A file that will come in parts. ``bytes`` and ``sha256`` are those of the whole."""

    bytes: Annotated[int, Field(ge=1, le=2**53)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    part_bytes: Annotated[int, Field(ge=1024, le=LARGEST_PART_BYTES)] = PART_BYTES
    """Bytes of every part but the last."""
    name: Name | None = None
    metadata: Metadata = Field(default_factory=dict)

    def wanted(self) -> UploadRequest:
        """The same for the service."""
        options = self.model_dump(include=set(IntakeOptions.model_fields), exclude_none=True)
        return UploadRequest(self.bytes, self.sha256, self.part_bytes, self.name, options, self.metadata)


class PartRead(BaseModel):
    """A part that has arrived."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    bytes: int
    sha256: str


class UploadRead(BaseModel):
    """A file on its way. ``parts`` is null in lists."""

    id: str
    object: Literal["upload"] = "upload"
    name: str | None
    status: UploadStatus
    format: str | None
    columns: dict[str, str] | None
    encoding: str | None
    metadata: dict[str, str]
    bytes: int
    digest: Digest
    part_bytes: int
    num_parts: int
    num_received: int
    received_bytes: int
    parts: list[PartRead] | None
    dataset_id: str | None
    created_at: datetime
    expires_at: datetime
