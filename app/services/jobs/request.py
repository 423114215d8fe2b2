"""What a client asks for when it makes a job, or asks what one would take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spice_select.config import ProxyConfig, RunConfig


@dataclass(frozen=True)
class JobRequest:
    """A client's request, validated field by field but not yet against the data set.

    ``settings`` are those of the job for its proxy model: what a preset fills in depends on it. ``base_pointer`` is
    where the request names the job that it adds to. ``retry_of`` is the job that is tried again, and ``target_rows_id``
    the data set of its target rows, which then are not read anew.
    """

    dataset_id: str
    settings: Callable[[ProxyConfig], RunConfig]
    proxy: ProxyConfig | None
    name: str | None
    metadata: dict[str, Any]
    deadline_seconds: float | None
    priority: int = 0
    base_pointer: str = "#/given_job"
    parent: dict[str, Any] | None = None
    traceparent: str | None = None
    retry_of: str | None = None
    target_rows_id: str | None = None
