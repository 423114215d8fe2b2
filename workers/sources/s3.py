"""Objects of an S3 bucket, with the endpoint and the credentials of the settings and nobody else's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from app.errors import ServiceError
from app.settings import Settings
from spice_select.ingest import numbered
from spice_select.ingest.source_urls import S3Source, is_data_file
from workers.sources.fetched import Fetched, FetchedFile, Meter

_BLOCK = 2**22
_POINTER = "#/source/url"
_SECONDS = 15
MOST_FILES = 10_000


def fetch_s3(source: S3Source, folder: Path, settings: Settings, meter: Meter) -> Fetched:
    """Copy an object, or the data files below a prefix.

    Raises:
        ServiceError: ``source-not-found``, ``source-unreachable`` or ``download-limit``.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    path = source.url.removeprefix("s3://")
    try:
        system = _system(settings)
        objects = _below(system, path) if path.endswith("/") else [system.info(path)]
        meter.expect(sum(int(found["size"]) for found in objects))
        files = [
            _copy(system, found, folder / numbered(position, found["name"].rpartition("/")[2]), meter)
            for position, found in enumerate(objects)
        ]
    except (FileNotFoundError, PermissionError) as error:
        detail = "there is no such object, or the service's credentials may not read it"
        raise ServiceError("source-not-found", detail, pointer=_POINTER) from error
    except (BotoCoreError, ClientError, OSError) as error:
        detail = f"the S3 service does not answer as it should ({type(error).__name__})"
        raise ServiceError("source-unreachable", detail) from error
    return Fetched(source.url, files)


def _system(settings: Settings) -> Any:
    import s3fs

    key, secret = settings.s3_key_id.get_secret_value(), settings.s3_secret.get_secret_value()
    return s3fs.S3FileSystem(
        key=key or None,
        secret=secret or None,
        endpoint_url=settings.s3_endpoint or None,
        client_kwargs={"region_name": settings.s3_region} if settings.s3_region else None,
        config_kwargs={"connect_timeout": _SECONDS, "read_timeout": 4 * _SECONDS, "retries": {"max_attempts": 2}},
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def _below(system: Any, path: str) -> list[dict[str, Any]]:
    """Data files directly below a prefix, in the order of their names.

    Raises:
        FileNotFoundError: There is none.
        ServiceError: ``download-limit`` when there are too many.
    """
    found = [entry for entry in system.ls(path.rstrip("/"), detail=True) if entry["type"] == "file"]
    data = sorted((entry for entry in found if is_data_file(entry["name"].rpartition("/")[2])), key=lambda e: e["name"])
    if not data:
        raise FileNotFoundError(path)
    if len(data) > MOST_FILES:
        raise ServiceError("download-limit", f"there are {len(data)} files, at most {MOST_FILES} are taken")
    return data


def _copy(system: Any, found: dict[str, Any], target: Path, meter: Meter) -> FetchedFile:
    sha256, size, before = hashlib.sha256(), 0, meter.bytes
    with (
        system.open(found["name"], "rb", block_size=_BLOCK, cache_type="readahead") as source,
        target.open("wb") as out,
    ):
        while block := source.read(_BLOCK):
            size += len(block)
            meter.reached(before + size)
            sha256.update(block)
            out.write(block)
    if size != int(found["size"]):
        raise ServiceError("source-unreachable", "an object changed while it was read")
    etag = str(found.get("ETag") or "").strip('"') or None
    return FetchedFile(found["name"].partition("/")[2], size, sha256.hexdigest(), found.get("VersionId") or etag)
