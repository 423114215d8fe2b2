"""Webhook endpoints through both clients and the command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.outbound import Guard, Policy
from spice_select.cli.main import main
from spice_select.client import AsyncClient, Client
from spice_select.errors import ClientError
from tests.fixtures.service import InProcessService

URL = "https://hooks.example.org/spice"


@pytest.fixture
def url(sqlite_url: str, tmp_path: Path) -> Iterator[str]:
    with InProcessService(sqlite_url, tmp_path / "data") as service:
        service.app.state.services.webhooks.guard = Guard(Policy(), lambda _: ["93.184.215.14"])
        yield str(service.http.base_url)


def test_the_blocking_client_manages_endpoints(url: str) -> None:
    with Client(url) as client:
        calls = client.webhook_endpoints
        made = calls.create(URL, event_types=["job.failed"], name="ours")
        assert made.secret is not None
        assert [(one.id, one.secret) for one in calls.list()] == [(made.id, None)]
        assert calls.update(made.id, event_types=["job.succeeded"]).event_types == ["job.succeeded"]
        rotated = calls.rotate_secret(made.id, overlap_hours=1)
        assert rotated.secret not in {None, made.secret}
        assert rotated.old_secret_until is not None
        ping = calls.ping(made.id)
        assert [one.id for one in calls.deliveries(made.id, state="pending")] == [ping.id]
        assert calls.redeliver(made.id, ping.id).state == "pending"
        calls.delete(made.id)
        with pytest.raises(ClientError) as gone:
            calls.get(made.id)
        assert gone.value.code == "not-found"
        with pytest.raises(ClientError) as refused:
            calls.create("https://127.0.0.1/")
        assert refused.value.code == "url-not-allowed"


def test_the_awaited_client_manages_endpoints(url: str) -> None:
    async def steps() -> None:
        async with AsyncClient(url) as client:
            calls = client.webhook_endpoints
            made = await calls.create(URL)
            assert "job.succeeded" in (await calls.get(made.id)).event_types
            assert [one.id async for one in calls.list()] == [made.id]
            assert (await calls.update(made.id, enabled=False)).disabled_reason == "switched-off"
            await calls.update(made.id, enabled=True)
            assert (await calls.rotate_secret(made.id)).secret
            ping = await calls.ping(made.id)
            assert [one.id async for one in calls.deliveries(made.id)] == [ping.id]
            assert (await calls.redeliver(made.id, ping.id)).id == ping.id
            await calls.delete(made.id)

    asyncio.run(steps())


def test_the_command_manages_endpoints(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPICE_API_URL", url)

    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit) as done:
            main(["webhooks", *arguments])
        assert done.value.code == 0, capsys.readouterr().err
        return capsys.readouterr().out

    made = json.loads(said("add", URL, "--event", "job.failed", "--json"))
    assert made["secret"].startswith("whsec_")
    assert URL in said("list")
    assert json.loads(said("show", made["id"], "--json"))["secret"] is None
    assert "off" in said("change", made["id"], "--off")
    assert json.loads(said("change", made["id"], "--on", "--event", "job.expired", "--json"))["enabled"] is True
    assert "whsec_" in said("rotate", made["id"])
    ping = json.loads(said("ping", made["id"], "--json"))
    assert ping["id"] in said("deliveries", made["id"], "--state", "pending")
    assert ping["id"] in said("redeliver", made["id"], ping["id"])
    said("remove", made["id"])
    assert json.loads(said("list", "--json")) == []
