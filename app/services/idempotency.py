"""Repeating a POST safely: the key is stored in the transaction of what it made."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session

from app.errors import NotFoundError, ServiceError
from app.persistence.repositories import IdempotencyKeys, KeyHeldError
from app.persistence.session import Database

Made = TypeVar("Made")

VISIBLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")


def parse_key(header: str | None) -> str | None:
    """The key of an ``Idempotency-Key`` header: bare as Stripe sends it, or a quoted structured-field string.

    Raises:
        ServiceError: ``idempotency-key-invalid``.
    """
    if header is None:
        return None
    key = header.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if not VISIBLE.fullmatch(key):
        raise ServiceError("idempotency-key-invalid", "the Idempotency-Key must be 1 to 255 visible ASCII characters")
    return key


def replayed(
    session: Session, project_id: str, operation: str, key: str | None, request_sha256: str, resource_id: str
) -> str | None:
    """Take the key for a resource about to be made.

    Must run before anything else is written: on PostgreSQL it waits a moment for a competing call with the same key.

    Returns:
        None when the resource is to be made; else the id of what the first call with this key made.

    Raises:
        ServiceError: ``idempotency-key-reused`` when the first call had another body; ``idempotency-in-progress`` when
            it goes on for longer than this one waits; ``unavailable`` when the key was forgotten at this very moment.
    """
    if key is None:
        return None
    try:
        if IdempotencyKeys(session).remember(project_id, operation, key, request_sha256, resource_id):
            return None
    except KeyHeldError as error:
        raise ServiceError(
            "idempotency-in-progress",
            "the first request with this Idempotency-Key has not been answered yet",
            headers={"Retry-After": "2"},
        ) from error
    earlier = repeated(session, project_id, operation, key, request_sha256)
    if earlier is None:
        # Forgotten in between: the next try will take it.
        raise ServiceError("unavailable", "the Idempotency-Key is just being forgotten; try again")
    return earlier


def repeated(session: Session, project_id: str, operation: str, key: str, request_sha256: str) -> str | None:
    """Id of what the first call with this key made, or None when there was none.

    Raises:
        ServiceError: ``idempotency-key-reused`` when the first call had another body.
    """
    known = IdempotencyKeys(session).find(project_id, operation, key)
    if known is None:
        return None
    if known.request_sha256 != request_sha256:
        raise ServiceError("idempotency-key-reused", "this Idempotency-Key came with another request body before")
    return known.resource_id


def first_call(database: Database, project_id: str, operation: str, key: str | None, request_sha256: str) -> str | None:
    """As ``repeated``, before there is a transaction, and for a call that may have no key.

    Raises:
        ServiceError: ``idempotency-key-reused``.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by repeated()
    if key is None:
        return None
    with database.read() as session:
        return repeated(session, project_id, operation, key, request_sha256)


def made_before(read: Callable[[], Made], what: str) -> Made:
    """What the first call with a key made.

    Args:
        read: Reads it.
        what: Its kind and id.

    Raises:
        NotFoundError: It was deleted since; nothing is made in its place.
    """
    try:
        return read()
    except NotFoundError as error:
        raise NotFoundError(f"{what}: it was made with this Idempotency-Key and deleted") from error
