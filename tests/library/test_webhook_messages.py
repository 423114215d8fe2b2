"""What a receiver does with a message: the client verifies it as the Standard Webhooks library does."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from spice_select.client import webhooks
from spice_select.errors import ClientError


def signed(secret: str, body: bytes, identity: str = "msg_1", at: float | None = None) -> dict[str, str]:
    moment = datetime.fromtimestamp(time.time() if at is None else at, UTC)
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign(identity, moment, body.decode()),
    }


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"type":"job.failed","timestamp":"2026-01-31T00:00:00Z","data":{"job_id":"job_1","event_id":4}}'


def test_the_client_verifies_as_the_library_does() -> None:
    headers = signed(SECRET, BODY)
    assert webhooks.unwrap(BODY, headers, SECRET).type == "job.failed"
    assert webhooks.unwrap(BODY.decode(), {k.title(): v for k, v in headers.items()}, SECRET).data["job_id"] == "job_1"
    both = {**headers, "webhook-signature": f"v1a,xx v1,{'A' * 43}= {headers['webhook-signature']}"}
    assert webhooks.unwrap(BODY, both, [SECRET, "whsec_" + "A" * 32]).id == "msg_1"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda h: h.update({"webhook-id": "msg_2"}),
        lambda h: h.update({"webhook-timestamp": str(int(h["webhook-timestamp"]) + 1)}),
        lambda h: h.update(signed(SECRET, BODY, at=time.time() - 400)),
        lambda h: h.update(signed(SECRET, BODY, at=time.time() + 400)),
        lambda h: h.update(signed("whsec_" + "A" * 32, BODY)),
        lambda h: h.update(signed(SECRET, BODY + b" ")),
        lambda h: h.pop("webhook-signature"),
        lambda h: h.pop("webhook-id"),
        lambda h: h.update({"webhook-signature": ""}),
        lambda h: h.update({"webhook-signature": "v1,"}),
        lambda h: h.update({"webhook-signature": "v1,é"}),
        lambda h: h.update({"webhook-signature": h["webhook-signature"].replace("v1,", "v2,")}),
        lambda h: h.update({"webhook-timestamp": "now"}),
        lambda h: h.update({"webhook-timestamp": "nan"}),
    ],
)
def test_the_client_refuses_what_is_forged_or_stale(spoil: Callable[[dict[str, str]], Any]) -> None:
    headers = signed(SECRET, BODY)
    spoil(headers)
    with pytest.raises(ClientError) as refused:
        webhooks.unwrap(BODY, headers, SECRET)
    assert refused.value.code == "webhook-invalid"
