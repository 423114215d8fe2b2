"""The database's clock is set back by an hour: whatever was accepted goes on within seconds, and the metrics tell.

The clock itself cannot be set here; to whatever reads it, every moment on record being an hour later is the same.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from app.persistence.tables import Unit, WebhookDelivery
from app.persistence.types import clock
from app.status import JobStatus, UnitState
from tests.fixtures.service import InProcessService, jsonl, sums

HOUR = timedelta(hours=1)


def set_clock_back(service: InProcessService, by: timedelta = HOUR) -> None:
    """As if the database's clock had been set back just now."""
    tables: dict[Any, tuple[str, ...]] = {
        Unit: ("created_at", "started_at", "heartbeat_at", "not_before", "notified_at", "lease_until"),
        WebhookDelivery: ("created_at", "not_before", "last_attempt_at", "lease_until"),
    }
    with service.runner.database.write() as session:
        for table, names in tables.items():
            for row in session.scalars(select(table)).all():
                later = {name: getattr(row, name) + by for name in names if getattr(row, name) is not None}
                session.execute(update(table).where(table.id == row.id).values(**later))


def ahead(service: InProcessService) -> float:
    found = re.search(r"^spice_clock_ahead_seconds (\S+)$", service.http.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_an_accepted_job_goes_on_and_the_metrics_tell(any_service: InProcessService) -> None:
    service = any_service
    dataset = service.push(jsonl(sums(8)))["id"]
    job = service.submit(dataset)
    assert ahead(service) <= 0
    set_clock_back(service)
    assert service.drain() == 0, "whatever waits is an hour from its time"
    assert 3590 < ahead(service) <= 3600
    service.runner.units.sweep()
    assert service.drain() > 0
    assert service.job(job["id"])["status"] == JobStatus.SUCCEEDED
    assert ahead(service) <= 0


def test_what_a_lost_worker_held_is_taken_over_after_a_lease_and_a_live_one_keeps_its_own(
    any_service: InProcessService,
) -> None:
    service, units = any_service, any_service.runner.units
    service.submit(service.push(jsonl(sums(8)))["id"])
    claim = units.claim_next("lost")
    assert claim is not None
    set_clock_back(service)
    units.sweep()
    with service.runner.database.read() as session:
        unit = session.scalars(select(Unit).where(Unit.id == claim.unit_id)).one()
    assert unit.state == UnitState.LEASED
    assert unit.epoch == claim.epoch, "its worker may well live"
    assert unit.lease_until is not None
    assert unit.heartbeat_at is not None
    length = (unit.lease_until - (unit.heartbeat_at - HOUR)).total_seconds()
    assert service.settings.lease_seconds <= length < service.settings.lease_seconds + 60


def test_a_unit_is_notified_of_again(any_service: InProcessService) -> None:
    service, units = any_service, any_service.runner.units
    service.submit(service.push(jsonl(sums(8)))["id"])
    told: list[str] = []
    assert units.notify(told.append) == 1
    set_clock_back(service)
    assert units.notify(told.append) == 0
    units.sweep()
    assert units.notify(told.append) == 1


def test_a_pause_before_another_attempt_is_kept(any_service: InProcessService) -> None:
    """What is ahead by right is not cut, though another record shows a step."""
    service, units = any_service, any_service.runner.units
    object.__setattr__(units.settings, "backoff_seconds", 30.0)
    service.submit(service.push(jsonl(sums(8)))["id"])
    claim = units.claim_next("one")
    assert claim is not None
    units.fail(claim, "internal", "once")
    with service.runner.database.write() as session:
        session.execute(update(Unit).where(Unit.id != claim.unit_id).values(notified_at=clock(3600.0)))
    units.sweep()
    assert units.claim_next("two") is None


def test_messages_to_webhook_endpoints_go_on(sqlite_url: str, tmp_path: Path) -> None:
    allowed: dict[str, Any] = {"outbound_allowed_networks": ["127.0.0.1/32"], "outbound_ports": [9]}
    with InProcessService(sqlite_url, tmp_path / "data", **allowed) as service:
        endpoint = service.http.post("/v1/webhook-endpoints", json={"url": "http://127.0.0.1:9/hook"}).json()["id"]
        assert service.http.post(f"/v1/webhook-endpoints/{endpoint}/ping").is_success
        set_clock_back(service)
        service.runner.units.sweep()
        with service.runner.database.read() as session:
            message = session.scalars(select(WebhookDelivery)).one()
        assert message.not_before < message.created_at - HOUR / 2, "due now, and not when the clock has caught up"
