"""Webhook endpoints: secrets that rotate and stay secret, addresses that are refused, changes that are safe."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text, update
from standardwebhooks import Webhook, WebhookVerificationError

from app.persistence.session import Database
from app.persistence.tables import WebhookDelivery, WebhookEndpoint
from app.persistence.types import clock
from app.services.access.secret_box import SecretBox
from app.services.notify.deliveries import DeliveryService, Message
from app.settings import Settings
from app.status import DeliveryState
from tests.fixtures.hooked import Hooked, until
from tests.fixtures.receiver import Receiver
from tests.fixtures.service import InProcessService
from workers.background.webhook_sender import WebhookSender


def message(attempt: int) -> Message:
    return Message("whd_x", "whe_x", "proj_x", 1, attempt, "https://x.org/", "{}", ())


def test_a_rotated_secret_signs_beside_the_new_one_until_the_overlap_is_over(hooked: Hooked) -> None:
    endpoint = hooked.endpoint()
    path = f"/v1/webhook-endpoints/{endpoint['id']}"
    rotated = hooked.service.http.post(f"{path}/rotate-secret", json={"overlap_hours": 1})
    assert rotated.headers["cache-control"] == "no-store"
    new = rotated.json()["secret"]
    assert new != endpoint["secret"]
    with hooked.sender():
        hooked.ping(endpoint)
        until(lambda: len(hooked.receiver.requests) == 1, "a message with both")
        with hooked.service.runner.database.write() as session:
            session.execute(update(WebhookEndpoint).values(old_secret_until=clock(-1)))
        hooked.ping(endpoint)
        until(lambda: len(hooked.receiver.requests) == 2, "a message with one")
    both, one = hooked.receiver.requests
    assert len(both.headers["webhook-signature"].split()) == 2
    for secret in (endpoint["secret"], new):
        Webhook(secret).verify(both.body, both.headers)
    Webhook(new).verify(one.body, one.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(endpoint["secret"]).verify(one.body, one.headers)


def test_secrets_are_encrypted_and_shown_when_they_are_made(hooked: Hooked, tmp_path: Path) -> None:
    endpoint = hooked.endpoint()
    path = f"/v1/webhook-endpoints/{endpoint['id']}"
    shown = [hooked.service.http.get(where).text for where in (path, "/v1/webhook-endpoints", f"{path}/deliveries")]
    with hooked.service.runner.database.read() as session:
        stored = [str(row) for row in session.execute(text("SELECT * FROM webhook_endpoint"))]
    bare = endpoint["secret"].removeprefix("whsec_")
    assert not [word for word in shown + stored if bare in word]
    assert (tmp_path / "data" / "webhook-key").stat().st_mode & 0o077 == 0


def test_keys_may_be_exchanged_and_a_lost_one_is_told(tmp_path: Path) -> None:
    old = SecretBox(Settings(data_dir=tmp_path, webhook_key="first"))
    sealed = old.seal("whsec_x")
    assert SecretBox(Settings(data_dir=tmp_path, webhook_key="second, first")).open(sealed) == "whsec_x"
    assert SecretBox(Settings(data_dir=tmp_path, webhook_key="second")).open(sealed) is None
    sender = WebhookSender(Settings(data_dir=tmp_path), Database("sqlite://"))
    assert "SPICE_WEBHOOK_KEY" in str(sender.send(message(1)).error)


def test_private_addresses_are_refused_when_made_and_when_sent(any_database_url: str, tmp_path: Path) -> None:
    with Receiver() as receiver, InProcessService(any_database_url, tmp_path / "data") as service:
        for url in (receiver.url, "https://127.0.0.1/", "https://169.254.169.254/", "https://user:x@93.184.215.14/"):
            refused = service.http.post("/v1/webhook-endpoints", json={"url": url})
            assert (refused.status_code, refused.json()["code"]) == (422, "url-not-allowed")
            assert refused.json()["errors"][0]["pointer"] == "#/url"
        lax = service.settings.model_copy(
            update={"outbound_allowed_networks": ["127.0.0.1"], "outbound_ports": [receiver.port], "poll_seconds": 0.05}
        )
        service.app.state.services.webhooks.guard.policy = type(service.app.state.services.webhooks.guard.policy).of(
            lax
        )
        hooked = Hooked(service, receiver)
        endpoint = hooked.endpoint()
        hooked.ping(endpoint)
        with hooked.sender():  # under the strict settings
            told = until(lambda: hooked.deliveries(endpoint)[0]["last_error"], "refused")
        assert told.startswith("url-not-allowed")
        assert receiver.requests == []
        moved = service.http.patch(f"/v1/webhook-endpoints/{endpoint['id']}", json={"url": "https://10.0.0.1/"})
        assert moved.json()["code"] == "url-not-allowed"


def test_making_an_endpoint_is_safe_to_repeat(hooked: Hooked) -> None:
    send = {"url": hooked.url, "event_types": ["job.failed"]}
    headers = {"Idempotency-Key": "once"}
    first, again = (hooked.service.http.post("/v1/webhook-endpoints", json=send, headers=headers) for _ in range(2))
    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    other = hooked.service.http.post("/v1/webhook-endpoints", json={"url": hooked.url}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert len(hooked.service.http.get("/v1/webhook-endpoints").json()["data"]) == 1


def test_an_endpoint_changes_only_as_the_caller_has_seen_it(hooked: Hooked) -> None:
    endpoint = hooked.endpoint(name="ours")
    path = f"/v1/webhook-endpoints/{endpoint['id']}"
    tag = hooked.service.http.get(path).headers["ETag"]
    assert hooked.service.http.get(path, headers={"If-None-Match": tag}).status_code == 304
    changed = hooked.service.http.patch(
        path, json={"event_types": ["job.failed"], "name": None}, headers={"If-Match": tag}
    )
    assert (changed.json()["event_types"], changed.json()["name"]) == (["job.failed"], None)
    for call in (
        lambda: hooked.service.http.patch(path, json={"name": "x"}, headers={"If-Match": tag}),
        lambda: hooked.service.http.post(f"{path}/rotate-secret", json={}, headers={"If-Match": tag}),
        lambda: hooked.service.http.delete(path, headers={"If-Match": tag}),
    ):
        assert call().status_code == 412
    for body in ({}, {"url": None}, {"enabled": None}, {"event_types": []}, {"event_types": ["nothing"]}, {"x": 1}):
        assert hooked.service.http.patch(path, json=body).status_code == 422, body
    hooked.tell(1, "job.failed")
    assert [hooked.service.http.delete(path).status_code for _ in range(2)] == [204, 204]
    assert hooked.service.http.delete(f"{path[:-1]}{'A' if path[-1] != 'A' else 'B'}").status_code == 404
    assert hooked.service.http.get(path).status_code == 404


def test_a_project_has_a_limited_number_of_endpoints(hooked: Hooked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.services.notify.webhooks.MOST_OF_PROJECT", 2)
    hooked.endpoint()
    hooked.endpoint()
    refused = hooked.service.http.post("/v1/webhook-endpoints", json={"url": hooked.url})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict-state")


def test_old_messages_are_forgotten_and_waiting_ones_are_not(hooked: Hooked) -> None:
    endpoint = hooked.endpoint()
    hooked.tell(3)
    with hooked.service.runner.database.write() as session:
        oldest = session.query(WebhookDelivery).order_by(WebhookDelivery.event_id).first()
        assert oldest is not None
        oldest.state, oldest.settled_at = DeliveryState.DELIVERED, oldest.created_at.replace(year=2020)
    DeliveryService(hooked.service.runner.database, hooked.service.settings, SecretBox(hooked.service.settings)).sweep()
    assert [one["state"] for one in hooked.deliveries(endpoint)] == ["pending", "pending"]
