"""Which sources of data sets this service fetches from: every kind is off until the settings name what it may reach."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from app.errors import ServiceError
from app.outbound import Guard, Policy
from app.settings import Settings
from spice_select.ingest.source_urls import AnySource, FileSource, HubSource, S3Source


def refuse_source(source: AnySource, settings: Settings) -> None:
    """Hold a source against the settings; of an address, its name is resolved.

    Args:
        source: What a client asks for.
        settings: Of the service.

    Raises:
        ServiceError: ``source-not-allowed`` or ``url-not-allowed``.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _require() and check()
    if isinstance(source, HubSource):
        allowed = any(fnmatchcase(source.repo, pattern) for pattern in settings.source_hub_repos)
        _require(allowed, settings.source_hub_repos, "data sets of the hub", "SPICE_SOURCE_HUB_REPOS", "#/source/repo")
    elif isinstance(source, S3Source):
        key = source.url.removeprefix("s3://")
        allowed = any(key.startswith(entry.rstrip("/") + "/") for entry in settings.source_s3_prefixes)
        _require(allowed, settings.source_s3_prefixes, "S3 objects", "SPICE_SOURCE_S3_PREFIXES", "#/source/url")
    elif isinstance(source, FileSource):
        # Whether the path is below a root is seen where it is opened, step by step, so that no link leads out.
        roots = settings.source_roots
        path = source.path
        allowed = not path.startswith("/") or any(path.startswith(f"{str(root).rstrip('/')}/") for root in roots)
        _require(bool(roots) and allowed, roots, "files of its own disks", "SPICE_SOURCE_ROOTS", "#/source/path")
    else:
        hosts = settings.source_https_hosts
        _require(bool(hosts), hosts, "files from https addresses", "SPICE_SOURCE_HTTPS_HOSTS", "#/source/url")
        guard_of(settings).check(source.url, pointer="#/source/url")


def guard_of(settings: Settings) -> Guard:
    """The guard of outbound requests, with the hosts that data sets may come from."""
    policy = Policy.of(settings)
    if "*" not in settings.source_https_hosts:
        policy = replace(policy, allowed_hosts=tuple(settings.source_https_hosts))
    return Guard(policy)


def _require(allowed: bool, listed: list[Any], what: str, setting: str, pointer: str) -> None:
    if allowed:
        return
    detail = f"it is not among the {what} that this service takes" if listed else f"this service takes no {what}"
    raise ServiceError("source-not-allowed", f"{detail} ({setting})", pointer=pointer)
