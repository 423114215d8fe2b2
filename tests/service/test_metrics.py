"""What operators watch: right after each step of a job, and the dashboards know no other names."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text, update

from app.errors import PROBLEMS
from app.persistence.repositories.history import RecentJob, RecentUnit
from app.persistence.tables import Job, Unit
from app.persistence.types import clock
from app.services.health import ROOT
from app.services.metrics import _attempts, _times
from tests.fixtures.service import InProcessService, jsonl, sums


def scrape(service: InProcessService) -> dict[tuple[str, str], float]:
    """Every sample by its name and the values of its labels."""
    answer = service.http.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_the_measures_follow_a_job(any_service: InProcessService) -> None:
    service = any_service
    dataset = service.push(jsonl(sums(8)))
    job = service.submit(dataset["id"])
    waiting = scrape(service)
    assert waiting["spice_jobs", "queued"] == 1
    assert waiting["spice_datasets", "ready"] == 1
    assert waiting["spice_queue_depth", "gradients"] == 1
    assert waiting["spice_units_running", "gradients"] == 0
    with service.runner.database.write() as session:
        session.execute(update(Unit).where(Unit.kind == "gradients").values(not_before=clock(-100)))
    assert 99 < scrape(service)["spice_queue_oldest_age_seconds", "gradients"] < 160
    claim = service.runner.units.claim_next("gpu-1")
    assert claim is not None
    held = scrape(service)
    assert held["spice_queue_depth", "gradients"] == 0
    assert held["spice_units_running", "gradients"] == 1
    assert held["spice_worker_heartbeat_age_seconds", "gpu-1"] < 60
    with service.runner.database.write() as session:
        session.execute(update(Unit).where(Unit.id == claim.unit_id).values(lease_until=clock(-1)))
    lost = scrape(service)
    assert (lost["spice_leases_expired", ""], lost["spice_units_running", "gradients"]) == (1, 0)
    service.drain()
    done = scrape(service)
    assert service.job(job["id"])["status"] == "succeeded"
    assert (done["spice_jobs", "succeeded"], done["spice_jobs", "queued"], done["spice_leases_expired", ""]) == (
        1,
        0,
        0,
    )
    # One lease of four attempts was lost above; the data set, the gradients and the selection were committed.
    ends = {outcome: done["spice_attempts", outcome] for outcome in ("committed", "failed", "lost", "dropped")}
    assert ends == {"committed": 3, "failed": 0, "lost": 1, "dropped": 0}
    for stat in ("median", "p95", "longest"):
        assert 0 <= done["spice_queue_wait_seconds", stat] < 600
        assert 0 < done["spice_phase_duration_seconds", f"selecting,{stat}"] < 600
    assert (
        done["spice_phase_duration_seconds", "gradients,median"]
        == service.job(job["id"])["result"]["seconds"]["gradients"]
    )
    with service.runner.database.write() as session:
        session.execute(update(Job).values(started_at=clock(-3700), finished_at=clock(-3700)))
        session.execute(update(Unit).values(finished_at=clock(-3700)))
    old = scrape(service)
    assert old["spice_attempts", "committed"] == 0
    assert not [name for name, _ in old if name in {"spice_queue_wait_seconds", "spice_phase_duration_seconds"}]


@pytest.mark.parametrize(
    ("state", "attempts", "lost_leases", "code", "ends"),
    [
        ("done", 3, 1, None, {"committed": 1, "failed": 1, "lost": 1}),
        ("leased", 2, 0, None, {"failed": 1}),
        ("pending", 2, 0, "hub-unreachable", {"failed": 2}),
        ("dead", 1, 0, "dataset-invalid", {"failed": 1}),
        ("dead", 3, 2, "worker-killed", {"lost": 3}),
        ("dead", 2, 1, None, {"lost": 1, "dropped": 1}),
    ],
)
def test_every_attempt_is_counted_by_its_end(
    state: str, attempts: int, lost_leases: int, code: str | None, ends: dict[str, int]
) -> None:
    moment = datetime(2026, 11, 26, tzinfo=UTC)
    family = _attempts([RecentUnit(state, attempts, lost_leases, code, moment)] * 2, moment)
    assert {s.labels["outcome"]: s.value for s in family.samples if s.value} == {end: 2 * n for end, n in ends.items()}
    late = _attempts([RecentUnit(state, attempts, lost_leases, code, moment)], moment + timedelta(seconds=1))
    assert not [sample for sample in late.samples if sample.value]


def test_times_are_told_by_their_middle_their_95th_percentile_and_the_longest() -> None:
    moment = datetime(2026, 11, 26, tzinfo=UTC)
    jobs = [RecentJob(moment - timedelta(seconds=i), moment, moment, {"selecting": 2.0 * i}) for i in range(1, 101)]
    waits, phases = _times(jobs, moment)
    assert [sample.value for sample in waits.samples] == [50.5, 95, 100]
    assert [sample.value for sample in phases.samples] == [101, 190, 200]


def test_answers_are_counted_by_route_and_never_by_path(service: InProcessService) -> None:
    for path in ("/v1/jobs", "/v1/jobs/job_01J8Z3K4M5N6P7Q8R9S0T1V2W3", "/made/up", "/made/up/too"):
        service.http.get(path)
    found = scrape(service)
    name = "spice_http_request_duration_seconds_count"
    assert found[name, "GET,/v1/jobs,2xx"] == 1
    assert found[name, "GET,/v1/jobs/{job_id},4xx"] == 1
    assert not [labels for _, labels in found if "made" in labels or "job_0" in labels]


def named(expression: str) -> set[str]:
    """Metrics that an expression reads."""
    return set(re.findall(r"\bspice_\w+", expression))


def expressions() -> list[tuple[str, str]]:
    rules: Any = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())
    board: Any = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    found = [(rule["alert"], rule["expr"]) for group in rules["groups"] for rule in group["rules"]]
    return found + [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel["targets"]]


def test_alerts_and_dashboard_read_what_exists(service: InProcessService) -> None:
    text = service.http.get("/metrics").text
    exist = set(re.findall(r"^# TYPE (spice_\w+) ", text, re.MULTILINE))
    assert len(exist) > 10
    for where, expression in expressions():
        names = {re.sub(r"_(count|bucket|sum)$", "", name) for name in named(expression)}
        assert names, where
        assert names <= exist, where


def test_the_alert_for_failed_jobs_knows_codes_that_exist() -> None:
    told = re.search(r'code=~"([^"]+)"', dict(expressions())["SpiceJobsFail"])
    assert told is not None
    for pattern in told[1].split("|"):
        assert [code for code in PROBLEMS if re.fullmatch(pattern, code)], pattern


@pytest.mark.parametrize("alert", [where for where, _ in expressions() if where.startswith("Spice")])
def test_operators_are_told_what_an_alert_means(alert: str) -> None:
    assert f"`{alert}`" in (ROOT / "docs" / "operations.md").read_text()


def test_every_measure_is_documented_and_shown(service: InProcessService) -> None:
    """And nothing is documented that is not there: the table, the dashboard and the alerts are the list."""
    exist = set(re.findall(r"^# TYPE (spice_\w+) ", service.http.get("/metrics").text, re.MULTILINE))
    chapter = (ROOT / "docs" / "operations.md").read_text().split("\n## Metrics\n")[1].split("\n### Alerts\n")[0]
    table = "\n".join(line for line in chapter.splitlines() if line.startswith("| `spice_"))
    assert named(table) == exist
    seen = {re.sub(r"_(count|bucket|sum)$", "", name) for _, read in expressions() for name in named(read)}
    assert exist - seen == {"spice_build_info"}


def test_the_statements_that_operators_are_given_run(any_service: InProcessService) -> None:
    document = (ROOT / "docs" / "operations.md").read_text()
    statements = "".join(re.findall(r"^```sql\n(.*?)^```", document, re.DOTALL | re.MULTILINE)).split(";\n")
    statements += re.findall(r"`(SELECT [^`]+)`", document)
    assert len(list(filter(None, statements))) >= 2
    if not any_service.settings.database_url.startswith("postgresql"):
        statements = [one for one in statements if "clock_timestamp" not in one]
    with any_service.runner.database.read() as session:
        for statement in filter(None, statements):
            session.execute(text(statement))
