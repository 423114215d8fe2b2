"""Files and addresses of the form of a new job: each becomes a data set, so that an error elsewhere loses nothing."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from app.api.services import Services
from app.errors import ServiceError
from app.services.access.keys import Caller
from app.services.datasets.service import Upload
from app.settings import Settings
from app.ui.form_fields import FormFields
from app.ui.target_fields import NAME
from spice_select.errors import SpiceError
from spice_select.ingest.source_urls import parse_source

FIELDS = ("dataset_id", "source")


@dataclass(frozen=True)
class SentFile:
    """A file that came with the form.

    Attributes:
        upload: Its bytes, in the scratch folder.
        name: Its name at the sender's.
    """

    upload: Upload
    name: str


def register(services: Services, visitor: Caller, draft: FormFields, files: dict[str, SentFile], once: str) -> None:
    """Make data sets of what was sent and what is to be fetched, and put their ids into the form.

    Args:
        services: Of this process.
        visitor: Who sends the form.
        draft: The form.
        files: Files by field.
        once: Makes a form that is sent twice one job.

    Raises:
        ServiceError: ``forbidden``.
    """
    address = draft.text("source")
    if (files or address) and not visitor.may("datasets:write"):
        raise ServiceError("forbidden", "the API key lacks the scope datasets:write")
    for field, sent in files.items():
        if sent.upload.bytes == 0:
            draft.refuse(field, "the file has no bytes")
            continue
        view, _ = services.datasets.register(
            visitor.project_id,
            sent.upload,
            name=sent.name or None,
            requested={},
            metadata={},
            key=f"{once[:60]}-{sent.upload.sha256}",
        )
        found = NAME.fullmatch(field)
        if found is None:
            draft.values["dataset_id"] = view.dataset.id
        else:
            prefix = f"{found[1]}_{found[2]}_"
            draft.values |= {f"{prefix}dataset_id": view.dataset.id, f"{prefix}kind": "dataset_id"}
    if address and "file" not in files:
        _fetch(services, visitor, draft, address, once)


def _fetch(services: Services, visitor: Caller, draft: FormFields, address: str, once: str) -> None:
    key = f"{once[:60]}-{sha256(address.encode()).hexdigest()}"
    try:
        view, _ = services.datasets.fetch_from(
            visitor.project_id, parse_source(address), name=None, requested={}, metadata={}, key=key
        )
    except (ServiceError, SpiceError) as error:
        draft.refuse("source", error.detail)
        return
    draft.values |= {"dataset_id": view.dataset.id, "source": ""}


def sources(settings: Settings) -> str:
    """How the addresses begin that the settings allow; empty where they allow none."""
    kinds = {
        "hf://datasets/": settings.source_hub_repos,
        "https://": settings.source_https_hosts,
        "s3://": settings.source_s3_prefixes,
        "file:": settings.source_roots,
    }
    return ", ".join(start for start, allowed in kinds.items() if allowed)
