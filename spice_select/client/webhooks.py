"""What a receiver of webhooks does first: check that a message is from the service and is recent.

    from spice_select.client import webhooks

    message = webhooks.unwrap(request.body, request.headers, secret)      # ClientError webhook-invalid when forged
    if message.type == "job.succeeded":
        client.jobs.download(message.data["job_id"], "selected")

Messages may come twice (``message.id`` tells) and out of order (``message.data["event_id"]`` grows). Nothing but the
standard library is needed for the signature: HMAC-SHA256 as Standard Webhooks 1.0 lays it out.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import Field, ValidationError

from spice_select.client.models import Answer
from spice_select.errors import ClientError

TOLERANCE_SECONDS = 300.0


class Message(Answer):
    """A message whose signature held. ``id`` is the same however often it is sent."""

    id: str
    type: str
    timestamp: datetime
    data: dict[str, Any] = Field(default_factory=dict)


def unwrap(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> Message:
    """The message in a request, if the service sent it.

    Args:
        body: Exactly as it arrived; one that was parsed and written again has other bytes.
        headers: Of the request; upper and lower case do not matter.
        secret: ``whsec_...`` of the endpoint, or several of them, any of which may have signed.
        tolerance_seconds: Greatest difference between the sender's clock and this one.

    Raises:
        ClientError: ``webhook-invalid``: headers are missing, the message is too old or too new, or no signature holds.
    """  # ruff: ignore[docstring-extraneous-exception, docstring-missing-exception] - made by _invalid()
    given = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in ("webhook-id", "webhook-timestamp", "webhook-signature") if not given.get(name)]
    if missing:
        raise _invalid(f"the header {missing[0]} is missing")
    identity, stamp = given["webhook-id"], given["webhook-timestamp"]
    if not (stamp.isascii() and stamp.isdecimal()):
        raise _invalid("webhook-timestamp is not a number of seconds")
    if abs(time.time() - int(stamp)) > tolerance_seconds:
        raise _invalid(f"the message was not sent within {tolerance_seconds:g} s of now")
    raw = body.encode() if isinstance(body, str) else bytes(body)
    signed = f"{identity}.{stamp}.".encode() + raw
    expected = [hmac.digest(_key(one), signed, "sha256") for one in ([secret] if isinstance(secret, str) else secret)]
    shown = [_bytes(part[3:]) for part in given["webhook-signature"].split() if part.startswith("v1,")]
    if not any(hmac.compare_digest(mine, theirs) for mine in expected for theirs in shown):
        raise _invalid("no signature holds")
    try:
        return Message.model_validate({**json.loads(raw), "id": identity})
    except (ValidationError, ValueError, TypeError) as error:
        raise _invalid("the body is no message of this service") from error


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise ClientError(
            "the secret is not one of a webhook endpoint: whsec_...", code="webhook-secret-invalid"
        ) from error


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _invalid(detail: str) -> ClientError:
    return ClientError(detail, code="webhook-invalid")
