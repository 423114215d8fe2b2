"""Standard Webhooks: signed, in order, again until they arrive, told by whoever runs the dispatcher's loop."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from sqlalchemy import update
from standardwebhooks import Webhook

from app.ids import DEFAULT_PROJECT
from app.persistence.repositories import Events, WebhookDeliveries
from app.persistence.repositories.history import _write_pending
from app.persistence.session import Database
from app.persistence.tables import WebhookDelivery
from app.persistence.types import clock
from app.services.access.secret_box import SecretBox
from app.services.notify.deliveries import DeliveryService, Message, Outcome
from app.settings import Settings
from app.status import DeliveryState
from spice_select.client import webhooks
from tests.fixtures.hooked import Hooked, until
from tests.fixtures.receiver import Received, Receiver, respond
from tests.fixtures.service import jsonl, sums
from workers.background.webhook_sender import MOST_OF_PROJECT


def test_what_happens_to_a_job_is_told_in_order_and_signed(hooked: Hooked) -> None:
    endpoint = hooked.endpoint()
    hooked.endpoint(event_types=["job.failed"])
    with hooked.sender():
        dataset = hooked.service.push(jsonl(sums(8)))
        job = hooked.service.submit(dataset["id"])
        hooked.service.drain()
        until(lambda: len(hooked.receiver.requests) >= 3, "three messages")
    told = []
    for request in hooked.receiver.requests:
        message = Webhook(endpoint["secret"]).verify(request.body, request.headers)
        unwrapped = webhooks.unwrap(request.body, request.headers, endpoint["secret"])
        assert (unwrapped.type, unwrapped.data) == (message["type"], message["data"])
        assert unwrapped.id == request.headers["webhook-id"]
        assert len(request.body) < 20_000
        assert request.headers["Content-Type"] == "application/json"
        told.append((message["type"], message["data"]["dataset_id"], message["data"]["job_id"]))
    assert told == [
        ("dataset.ready", dataset["id"], None),
        ("job.running", None, job["id"]),
        ("job.succeeded", None, job["id"]),
    ]
    events = hooked.service.http.get("/v1/events", params={"type": ["job.succeeded"]}).json()["data"]
    last = json.loads(hooked.receiver.requests[-1].body)
    assert (last["data"]["event_id"], last["data"]["details"]) == (events[0]["id"], events[0]["data"])
    done = hooked.deliveries(endpoint)
    assert [(one["type"], one["state"], one["attempts"], one["last_status"]) for one in done] == [
        (type_, "delivered", 1, 204) for type_ in ("job.succeeded", "job.running", "dataset.ready")
    ]
    assert {one["id"] for one in done} == {request.headers["webhook-id"] for request in hooked.receiver.requests}


def test_a_message_is_written_with_its_event_or_not_at_all(hooked: Hooked) -> None:
    endpoint = hooked.endpoint()
    database = hooked.service.runner.database

    def thrown_away() -> None:
        with database.write() as session:
            Events(session).append(DEFAULT_PROJECT, "job.running")
            _write_pending(session)
            assert len(WebhookDeliveries(session).page(endpoint["id"], state=None, before=None, limit=9)) == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        thrown_away()
    assert hooked.deliveries(endpoint) == []
    hooked.tell(1)
    assert [one["state"] for one in hooked.deliveries(endpoint)] == ["pending"]
    measured = hooked.service.http.get("/metrics").text
    assert 'spice_webhook_deliveries{state="pending"} 1.0' in measured
    assert 'spice_webhook_deliveries{state="delivered"} 0.0' in measured
    late = next(line for line in measured.splitlines() if line.startswith("spice_webhook_oldest_due_age_seconds "))
    assert 0 < float(late.split()[1]) < 60


def test_a_message_that_did_not_arrive_is_sent_again_under_its_id(hooked: Hooked) -> None:
    endpoint = hooked.endpoint()
    answers = iter([respond(500), respond(302, Location="/elsewhere"), respond(204)])
    hooked.receiver.answer = lambda request, handler: next(answers)(request, handler)
    hooked.tell(1)
    with hooked.sender():
        until(lambda: hooked.deliveries(endpoint, state="delivered"), "delivered")
    assert [request.path for request in hooked.receiver.requests] == ["/hook"] * 3, "a redirect is not followed"
    assert len({request.headers["webhook-id"] for request in hooked.receiver.requests}) == 1
    assert len({request.body for request in hooked.receiver.requests}) == 1
    assert hooked.deliveries(endpoint)[0]["attempts"] == 3


def test_a_receiver_that_stays_down_fails_and_can_be_served_later(hooked: Hooked) -> None:
    endpoint = hooked.endpoint()
    hooked.receiver.__exit__()
    queued = hooked.ping(endpoint)
    with hooked.sender():
        failed = until(lambda: hooked.deliveries(endpoint, state="failed"), "failed")
        assert (failed[0]["attempts"], failed[0]["last_status"], failed[0]["next_attempt_at"]) == (4, None, None)
        assert "ConnectError" in failed[0]["last_error"]
        with Receiver(port=hooked.receiver.port) as back:
            path = f"/v1/webhook-endpoints/{endpoint['id']}/deliveries/{queued['id']}/redeliver"
            off = hooked.service.http.get(f"/v1/webhook-endpoints/{endpoint['id']}").json()
            assert (off["enabled"], off["disabled_reason"]) == (False, "failing")
            told = hooked.service.http.get("/v1/events").json()["data"][-1]
            assert told["type"] == "webhook_endpoint.disabled"
            assert told["data"] == {"endpoint_id": endpoint["id"], "reason": "failing"}
            hooked.service.http.patch(f"/v1/webhook-endpoints/{endpoint['id']}", json={"enabled": True})
            again = hooked.service.http.post(path)
            assert (again.status_code, again.json()["state"]) == (202, "pending")
            until(lambda: hooked.deliveries(endpoint, state="delivered"), "delivered")
            assert [request.headers["webhook-id"] for request in back.requests] == [queued["id"]]
            assert json.loads(back.requests[0].body)["type"] == "webhook.ping"


def test_one_message_that_is_refused_switches_no_endpoint_off_that_takes_others(hooked: Hooked) -> None:
    endpoint = hooked.endpoint()
    hooked.tell(2)
    poison, _ = sorted(one["id"] for one in hooked.deliveries(endpoint))
    hooked.receiver.answer = lambda request, handler: respond(400 if request.headers["webhook-id"] == poison else 200)(
        request, handler
    )
    with hooked.sender():
        failed = until(lambda: hooked.deliveries(endpoint, state="failed"), "failed")
    assert [one["id"] for one in failed] == [poison]
    assert hooked.service.http.get(f"/v1/webhook-endpoints/{endpoint['id']}").json()["enabled"] is True


def test_gone_switches_the_endpoint_off_until_it_is_enabled_again(hooked: Hooked) -> None:
    endpoint = hooked.endpoint()
    path = f"/v1/webhook-endpoints/{endpoint['id']}"
    hooked.receiver.answer = respond(410)
    hooked.tell(3)
    with hooked.sender():
        until(lambda: not hooked.service.http.get(path).json()["enabled"], "switched off")
        assert [one["state"] for one in hooked.deliveries(endpoint)] == ["failed"] * 3
        hooked.tell(1)
        assert len(hooked.deliveries(endpoint)) == 3
        assert hooked.service.http.get(path).json()["disabled_reason"] == "gone"
        refused = hooked.service.http.post(f"{path}/ping")
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict-state")
        assert len(hooked.receiver.requests) == 1
        hooked.receiver.answer = respond(200)
        changed = hooked.service.http.patch(path, json={"enabled": True}).json()
        assert (changed["enabled"], changed["disabled_reason"]) == (True, None)
        hooked.tell(1)
        until(lambda: hooked.deliveries(endpoint, state="delivered"), "delivered")


@pytest.mark.parametrize(
    ("asked", "seconds"), [("40", 40), ("Fri, 01 Jan 2100 00:00:00 GMT", 24 * 3600), ("soon", 0), ("-5", 0)]
)
def test_a_receiver_may_ask_for_a_longer_pause(hooked: Hooked, asked: str, seconds: float) -> None:
    endpoint = hooked.endpoint()
    hooked.receiver.answer = respond(503, Retry_After=asked)
    hooked.ping(endpoint)
    with hooked.sender():
        until(lambda: hooked.deliveries(endpoint)[0]["last_status"], "first attempt")
        if seconds == 0:
            until(lambda: hooked.deliveries(endpoint, state="failed"), "by its own schedule")
            return
    with hooked.service.runner.database.read() as session:
        delivery = session.query(WebhookDelivery).one()
        assert delivery.last_attempt_at is not None
        pause = (delivery.not_before - delivery.last_attempt_at).total_seconds()
    assert seconds - 2 <= pause <= seconds * 1.1 + 2


def message(attempt: int) -> Message:
    return Message("whd_x", "whe_x", "proj_x", 1, attempt, "https://x.org/", "{}", ())


def test_the_schedule_is_that_of_standard_webhooks(tmp_path: Path) -> None:
    service = DeliveryService(
        Database("sqlite://"), Settings(data_dir=tmp_path), SecretBox(Settings(data_dir=tmp_path))
    )
    hours = 3600.0
    planned = [5, 300, 1800, 2 * hours, 5 * hours, 10 * hours, 14 * hours, 20 * hours, 24 * hours]
    assert service.settings.webhook_retry_seconds == planned
    for attempt, pause in enumerate(planned, start=1):
        tried = [service._pause(attempt, None) for _ in range(50)]
        assert pause <= min(tried) < max(tried) <= pause * 1.1, "with jitter, never early"
        assert service._pause(attempt, pause + 1) >= min(pause + 1, 24 * hours)


def test_a_receiver_that_does_not_answer_in_time_has_failed(hooked: Hooked) -> None:
    endpoint = hooked.endpoint()
    released = threading.Event()
    hooked.receiver.answer = lambda *_: (released.wait(20), None)[1]
    hooked.ping(endpoint)
    with hooked.sender(hooked.service.settings.model_copy(update={"webhook_timeout_seconds": 0.5})):
        failed = until(lambda: hooked.deliveries(endpoint)[0]["last_error"], "an attempt that ran out of time")
        released.set()
    assert "longer than it may" in failed or "Timeout" in failed


def test_a_slow_receiver_does_not_hold_up_another(hooked: Hooked) -> None:
    released = threading.Event()

    def answer(request: Received, handler: BaseHTTPRequestHandler) -> None:
        if request.path == "/slow":
            released.wait(0.9)
        respond(204)(request, handler)

    hooked.receiver.answer = answer
    slow = hooked.endpoint(url=f"{hooked.receiver.url}/slow")
    quick = hooked.endpoint()
    hooked.tell(6)
    with hooked.sender():
        until(lambda: len(hooked.deliveries(quick, state="delivered")) == 6, "the quick one has all")
        assert len(hooked.deliveries(slow, state="delivered")) < 6
        released.set()
        until(lambda: len(hooked.deliveries(slow, state="delivered")) == 6, "the slow one too")


def test_a_slow_receiver_is_parked(hooked: Hooked, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps a thread, and a place of its project, for a fraction of the time however much is to be told."""
    monkeypatch.setattr("workers.background.webhook_sender.SLOW_SECONDS", 1.0)

    def answer(request: Received, handler: BaseHTTPRequestHandler) -> None:
        if request.path == "/slow":
            time.sleep(1.2)
        respond(204)(request, handler)

    def told() -> int:
        return [request.path for request in hooked.receiver.requests].count("/slow")

    hooked.receiver.answer = answer
    slow = hooked.endpoint(url=f"{hooked.receiver.url}/slow")
    settings = hooked.service.settings.model_copy(update={"webhook_timeout_seconds": 30.0})
    hooked.tell(3)
    with hooked.sender(settings):
        until(lambda: len(hooked.deliveries(slow, state="delivered")) == 1, "it has the first one")
        time.sleep(1.5)
        assert told() == 1, "without a pause the next one is on its way at once"
        until(lambda: told() == 2, "it has its next turn after the pause")


def test_two_dispatchers_send_each_message_once_and_in_order(hooked: Hooked) -> None:
    hooked.receiver.answer = lambda request, handler: (time.sleep(0.002), respond(204)(request, handler))[1]
    first, second = hooked.endpoint(), hooked.endpoint(url=f"{hooked.receiver.url}/other")
    with hooked.sender(), hooked.sender():
        hooked.tell(30)
        for endpoint in (first, second):
            until(lambda endpoint=endpoint: len(hooked.deliveries(endpoint, state="delivered")) == 30, "all")
    for path in ("/hook", "/other"):
        numbers = [
            json.loads(request.body)["data"]["details"]["number"]
            for request in hooked.receiver.requests
            if request.path == path
        ]
        assert numbers == list(range(30))


def test_a_message_that_another_took_over_is_not_settled_twice(hooked: Hooked) -> None:
    endpoint = hooked.endpoint()
    hooked.tell(2)
    service = DeliveryService(
        hooked.service.runner.database, hooked.service.settings, SecretBox(hooked.service.settings)
    )
    (held,) = service.claim(5)
    assert service.claim(5) == [], "one on its way to an endpoint, the next after it"
    with hooked.service.runner.database.write() as session:
        session.execute(
            update(WebhookDelivery).where(WebhookDelivery.id == held.delivery_id).values(lease_until=clock(-1))
        )
    (again,) = service.claim(5)
    assert (again.delivery_id, again.epoch, again.attempt) == (held.delivery_id, held.epoch + 1, 2)
    assert service.settle(held, Outcome(status=500)) is None
    assert service.settle(again, Outcome(status=200)) is DeliveryState.DELIVERED
    assert service.settle(again, Outcome(status=500)) is None
    assert [one["state"] for one in hooked.deliveries(endpoint)] == ["pending", "delivered"]


def test_a_project_with_many_hanging_receivers_holds_up_nobody_else(hooked: Hooked) -> None:
    service = hooked.service
    webhook_service, keys = service.app.state.services.webhooks, service.app.state.services.keys
    release, hang = threading.Event(), f"{hooked.receiver.url}/hang"

    def answer(request: Received, handler: BaseHTTPRequestHandler) -> None:
        if request.path == "/hang":
            release.wait(120)
        respond(204)(request, handler)

    def paths() -> list[str]:
        return [request.path for request in hooked.receiver.requests]

    hooked.receiver.answer = answer
    settings = service.settings.model_copy(update={"webhook_timeout_seconds": 60.0})
    for _ in range(20):
        endpoint = webhook_service.create(DEFAULT_PROJECT, hang, [], name=None, key=None)[0]
        webhook_service.ping(DEFAULT_PROJECT, endpoint.id)
    other = keys.create_project("other").id
    quick = webhook_service.create(other, f"{hooked.receiver.url}/quick", [], name=None, key=None)[0]
    with hooked.sender(settings):
        try:
            until(lambda: paths().count("/hang") == MOST_OF_PROJECT, "as many hang as one project may have")
            began = time.monotonic()
            webhook_service.ping(other, quick.id)
            until(lambda: "/quick" in paths(), "the other project is told while they hang")
            print(f"told after {time.monotonic() - began:.2f} s")
            assert paths().count("/hang") == MOST_OF_PROJECT
        finally:
            release.set()
        until(lambda: paths().count("/hang") >= 20, "all are told in the end")
