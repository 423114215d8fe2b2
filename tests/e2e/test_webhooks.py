"""A dispatcher that is killed between sending a message and noting it down: it comes again, under the same id."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
from standardwebhooks import Webhook

from tests.e2e.conftest import FAST
from tests.fixtures.processes import ApiProcess, Dispatcher, environment
from tests.fixtures.receiver import Received, Receiver, respond


def test_a_dispatcher_killed_between_sending_and_noting_costs_no_message(
    launch: Callable[[Any], Any], database_url: str, broker_url: str, tmp_path: Path
) -> None:
    killed = threading.Event()

    def answer(request: Received, handler: BaseHTTPRequestHandler) -> None:
        killed.wait(60)  # the first sender never hears that its message arrived
        respond(204)(request, handler)

    with Receiver(answer) as receiver:
        extra = {
            **FAST,
            "SPICE_OUTBOUND_ALLOWED_NETWORKS": '["127.0.0.1"]',
            "SPICE_OUTBOUND_PORTS": f"[{receiver.port}]",
            "SPICE_WEBHOOK_TIMEOUT_SECONDS": "2",
        }
        env = environment(data_dir=tmp_path / "data", database_url=database_url, broker_url=broker_url, extra=extra)
        api = launch(ApiProcess(env, tmp_path))
        first = launch(Dispatcher(env, tmp_path, name="first"))
        with httpx.Client(base_url=api.url, timeout=30, trust_env=False) as http:
            endpoint = http.post("/v1/webhook-endpoints", json={"url": receiver.url}).json()
            queued = http.post(f"/v1/webhook-endpoints/{endpoint['id']}/ping").json()
            wait_for(lambda: receiver.requests, "the message")
            first.process.send_signal(signal.SIGKILL)
            first.process.wait(10)
            killed.set()
            launch(Dispatcher(env, tmp_path, name="second"))
            path = f"/v1/webhook-endpoints/{endpoint['id']}/deliveries/{queued['id']}"
            wait_for(lambda: http.get(path).json()["state"] == "delivered", "delivery by the second dispatcher")
            assert http.get(path).json()["attempts"] == 2
    assert [request.headers["webhook-id"] for request in receiver.requests] == [queued["id"]] * 2
    for request in receiver.requests:
        assert Webhook(endpoint["secret"]).verify(request.body, request.headers)["type"] == "webhook.ping"


def wait_for(done: Callable[[], Any], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
