"""Following events: over broken connections, nothing is missed and nothing comes twice."""

from __future__ import annotations

import asyncio
import json
from itertools import islice
from typing import Any

import pytest

from spice_select.client import AsyncClient, Client
from spice_select.client.event_stream import EventFollower
from spice_select.errors import ClientError, ConnectionFailedError
from tests.fixtures.commands import Command
from tests.fixtures.flaky import Answer, Drop, FlakyServer

JOB_EVENTS = "/v1/jobs/job_1/events"


def history(count: int) -> list[dict[str, Any]]:
    """Events whose text holds what some parsers take for the end of a line."""
    types = ["job.queued"] + ["job.noted"] * (count - 2) + ["job.succeeded"]
    return [
        {"id": 7 * number, "type": type_, "data": {"text": f"ä\u2028\x85 {number}"}, "created_at": None}
        for number, type_ in enumerate(types, start=1)
    ]


@pytest.mark.parametrize("cut", [0, 1, 30, 80, 150, 333], ids="cut after {}".format)
def test_a_job_is_followed_to_its_end_over_cut_connections(server: FlakyServer, client: Client, cut: int) -> None:
    events = server.streams[JOB_EVENTS] = history(9)
    server.fail(f"GET {JOB_EVENTS}", Drop(cut), Answer(503, {"Retry-After": "0"}), Drop(), Drop(cut), Drop(cut))
    found = list(client.events("job_1"))
    assert [event.id for event in found] == [event["id"] for event in events]
    assert [event.data for event in found] == [event["data"] for event in events]
    asked = server.asked(f"GET {JOB_EVENTS}")
    assert {seen.headers["accept"] for seen in asked} == {"text/event-stream"}
    assert "last-event-id" not in asked[0].headers


def test_the_awaited_client_follows_as_well(server: FlakyServer) -> None:
    events = server.streams[JOB_EVENTS] = history(5)
    server.fail(f"GET {JOB_EVENTS}", Drop(200))

    async def follow() -> list[Any]:
        async with AsyncClient(server.url) as client:
            return [event.id async for event in client.events("job_1", after=7)]

    assert asyncio.run(follow()) == [event["id"] for event in events[1:]]


def test_a_projects_stream_goes_on_after_each_orderly_end(server: FlakyServer, client: Client) -> None:
    server.streams["/v1/events"] = history(3)
    stream = client.events(types=["job.queued", "job.succeeded"])
    assert [event.id for event in islice(stream, 3)] == [7, 14, 21]
    server.streams["/v1/events"].append({"id": 100, "type": "job.queued", "data": {}})
    assert next(stream).id == 100, "the end of a job is not the end of the project's stream"
    asked = server.asked("GET /v1/events")
    assert asked[0].query == {"type": ["job.queued", "job.succeeded"]}
    assert asked[-1].headers["last-event-id"] == "21"


def test_a_stream_that_was_read_to_its_end_is_over(server: FlakyServer, client: Client) -> None:
    server.fail(f"GET {JOB_EVENTS}", Answer(204))
    assert list(client.events("job_1", after=99)) == []


def test_what_is_no_stream_is_said(server: FlakyServer, client: Client) -> None:
    with pytest.raises(ClientError, match="nothing here") as refused:
        list(client.events("job_2"))
    assert refused.value.code == "not-found"
    for content_type, body in [("text/html", b"<p>"), ("text/event-stream", b"data: {]\n\n")]:
        server.fail(f"GET {JOB_EVENTS}", Answer(200, {"Content-Type": content_type}, body))
        with pytest.raises(ClientError, match=r"stream|cannot be read"):
            list(client.events("job_1"))


def test_a_service_that_stays_away_is_given_up(server: FlakyServer, client: Client) -> None:
    server.fail(f"GET {JOB_EVENTS}", *[Drop()] * 50)
    with pytest.raises(ConnectionFailedError):
        list(client.events("job_1"))
    assert 10 < len(server.asked(f"GET {JOB_EVENTS}")) < 50


def test_bytes_may_arrive_in_any_pieces() -> None:
    wire = b"".join(
        f"event: x\r\nid: {event['id']}\r\ndata: {json.dumps(event, ensure_ascii=False)}\r\n\r\n".encode()
        for event in history(4)
    )
    for size in range(1, len(wire)):
        follower = EventFollower("/", None, [], 1, ends=True)
        chunks = (wire[start : start + size] for start in range(0, len(wire), size))
        assert [event.id for chunk in chunks for event in follower.feed(chunk)] == [7, 14, 21, 28]
        assert follower.over


def test_the_command_prints_one_event_a_line(service: FlakyServer, spice: Command) -> None:
    service.streams[JOB_EVENTS] = history(3)
    ended = spice("jobs", "events", "job_1", "--follow", "--json")
    assert [json.loads(line)["type"] for line in ended.out.strip().split("\n")] == [
        "job.queued",
        "job.noted",
        "job.succeeded",
    ]
