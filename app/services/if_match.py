"""Changing only what the caller has seen: the condition that ``If-Match`` states."""

from __future__ import annotations

from app.errors import ServiceError


def require_version(version: int, expected: frozenset[int] | None) -> None:
    """Refuse a change to another state than the caller knows.

    Args:
        version: Of the resource, locked or in the transaction that changes it.
        expected: Versions that may be changed; None for any.

    Raises:
        ServiceError: ``precondition-failed``.
    """
    if expected is not None and version not in expected:
        raise ServiceError(
            "precondition-failed", f"the resource is at version {version}, not at one that If-Match names"
        )
