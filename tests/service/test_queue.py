"""Whose turn it is, what a job is told while it waits, and that limits hold, on both databases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import select, update

from app.ids import DEFAULT_PROJECT
from app.persistence.tables import Unit
from app.persistence.types import clock
from app.services.access.keys import KeyService
from app.services.units.leases import Claim
from app.services.units.service import UnitService
from app.status import UnitKind
from tests.fixtures.service import InProcessService, jsonl, sums


def waiting_data_sets(service: InProcessService, count: int, key: str | None = None) -> list[str]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    ids = []
    for number in range(count):
        sent = service.http.post(
            "/v1/datasets", files={"file": ("pool.jsonl", jsonl(sums(4, 10 * number)))}, headers=headers
        )
        ids.append(str(sent.json()["id"]))
    return ids


def test_among_equals_the_project_with_less_running_goes_first(any_service: InProcessService) -> None:
    keys = KeyService(any_service.runner.database)
    other = keys.create_project("other")
    _, secret = keys.create(other.id, "key")
    first = waiting_data_sets(any_service, 4)
    late = waiting_data_sets(any_service, 2, secret)
    units = any_service.runner.units
    order = [claim.dataset_id for claim in (units.claim_next("w") for _ in range(6)) if claim is not None]
    assert order == [first[0], late[0], first[1], late[1], first[2], first[3]]


def test_a_flood_of_one_project_delays_another_by_its_share_only(any_service: InProcessService) -> None:
    """One worker, so nothing else runs when it claims: projects are served in turn, whatever their priorities say."""
    keys = KeyService(any_service.runner.database)
    dataset = any_service.push(jsonl(sums(8)))
    flood = [any_service.submit(dataset["id"], seed=seed, priority=100)["id"] for seed in range(5)]
    other = keys.create_project("other")
    _, secret = keys.create(other.id, "key")
    quiet = waiting_data_sets(any_service, 2, secret)
    units, order = any_service.runner.units, []
    while (claim := units.claim_next("w")) is not None:
        order.append(claim.project_id == other.id)
        any_service.runner.run_claim(claim)
    assert order[:4] in ([False, True, False, True], [True, False, True, False])
    assert len(flood) + len(quiet) == 7


def test_an_administrator_may_let_priority_go_before_fairness(any_service: InProcessService) -> None:
    keys = KeyService(any_service.runner.database)
    dataset = any_service.push(jsonl(sums(8)))
    other = keys.create_project("other")
    _, secret = keys.create(other.id, "key")
    [waiting] = waiting_data_sets(any_service, 1, secret)
    urgent = any_service.submit(dataset["id"], seed=1, priority=5)
    settings = any_service.runner.settings.model_copy(update={"priority_across_projects": True})
    for chosen, expected in ((settings, urgent["gradient_set_id"]), (any_service.runner.settings, None)):
        units = UnitService(any_service.runner.database, chosen)
        claim = units.claim_next("w")
        assert claim is not None
        assert claim.gradient_set_id == expected
        assert expected is not None or claim.dataset_id == waiting
        units.release(claim)


def test_priority_goes_before_age(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(8)))
    low = any_service.submit(dataset["id"], seed=1)
    high = any_service.submit(dataset["id"], seed=2, priority=5)
    assert any_service.job(high["id"])["queue"]["position"] == 1
    shown = any_service.job(low["id"])["queue"]
    assert (shown["position"], shown["ahead_in_project"], shown["reason"]) == (2, 1, "waiting_for_worker")
    claim = any_service.runner.units.claim_next("w")
    assert claim is not None
    assert claim.gradient_set_id == high["gradient_set_id"]
    shown = any_service.job(low["id"])["queue"]
    assert (shown["position"], shown["reason"]) == (1, "waiting_for_gpu")
    assert any_service.job(high["id"])["queue"] is None


def test_a_limited_project_runs_no_more_than_it_may(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(8)))
    keys = KeyService(any_service.runner.database)
    keys.limit_project(DEFAULT_PROJECT, 1)
    one, two = (any_service.submit(dataset["id"], seed=seed) for seed in (1, 2))
    units = any_service.runner.units
    claim = units.claim_next("w")
    assert claim is not None
    assert (claim.kind, claim.gradient_set_id) == (UnitKind.GRADIENTS, one["gradient_set_id"])
    assert units.claim_next("w") is None
    assert any_service.job(two["id"])["queue"]["reason"] == "project_limit"
    units.release(claim)
    assert units.claim_next("w") is not None
    with any_service.runner.database.write() as session:
        session.execute(update(Unit).where(Unit.state == "leased").values(lease_until=clock(-1)))
        shards = select(Unit.id).where(Unit.gradient_set_id == two["gradient_set_id"], Unit.job_id.is_(None))
        other = session.scalars(shards).one()
    assert units.claim(other, "w") is not None, "a lease that ran out keeps nobody waiting"
    keys.limit_project(DEFAULT_PROJECT, None)
    assert units.claim_next("w") is not None


def test_a_limit_holds_when_all_claim_at_once(any_service: InProcessService) -> None:
    waiting_data_sets(any_service, 8)
    KeyService(any_service.runner.database).limit_project(DEFAULT_PROJECT, 3)
    service = UnitService(any_service.runner.database, any_service.runner.settings)
    with service.database.read() as session:
        from app.persistence.repositories import Units

        ids = Units(session).runnable_ids(8, 3)
    assert len(ids) == 8
    barrier = threading.Barrier(8)

    def claim(unit_id: str) -> Claim | None:
        barrier.wait()
        return service.claim(unit_id, unit_id)

    with ThreadPoolExecutor(8) as pool:
        taken = [found for found in pool.map(claim, ids) if found is not None]
    assert len(taken) == 3


def test_a_waiting_job_is_told_when_it_will_start(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(8)))
    any_service.submit(dataset["id"], seed=1)
    any_service.drain()
    any_service.submit(dataset["id"], seed=2)
    last = any_service.submit(dataset["id"], seed=3)
    assert any_service.job(last["id"])["queue"]["estimated_start_at"] is None
    assert any_service.runner.units.claim_next("w") is not None
    shown = any_service.job(last["id"])
    assert shown["queue"]["estimated_start_at"] > shown["created_at"]
