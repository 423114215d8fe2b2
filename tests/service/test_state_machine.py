"""Random histories of submits, claims, lost workers, stale commits and stops: whatever the order, the promises hold."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, update

from app.persistence.repositories import OwnedUnits, Units
from app.persistence.tables import Evaluation, Event, File, Job, SelectedSample, Unit, UnitCommit
from app.persistence.types import clock
from app.services.units.commits import Outcome
from app.services.units.leases import Claim, Report
from app.status import EVALUATING, TERMINAL, EvaluationStatus, JobStatus, UnitKind, UnitState, may_move
from spice_select.ingest import SHARD_ROWS
from tests.fixtures.examples import examples
from tests.fixtures.service import InProcessService, jsonl, sums
from tests.soak.chaos.sabotage import open_the_fence
from workers.units.evaluation_plan import PlanOutcome
from workers.units.evaluation_report import ReportOutcome
from workers.units.select import SelectionOutcome

SHARDS = 2
ENDS = {f"job.{status}" for status in TERMINAL}
GRADIENT_SEEDS = itertools.count(1)
OPEN = {UnitState.PENDING, UnitState.LEASED}
TRAININGS = 2


class Histories(RuleBasedStateMachine):
    """The records under every order of calls that workers, clients and the clock can make.

    Attributes:
        service: A service with a data set of ``SHARDS`` shards; nothing is computed, the outcomes are made up.
        dataset_id: Of that data set.
    """

    service: ClassVar[InProcessService]
    dataset_id: ClassVar[str]

    jobs = Bundle("jobs")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        # Every history has gradient sets of its own, or it would find those of the one before.
        self.seeds = [next(GRADIENT_SEEDS), next(GRADIENT_SEEDS)]
        self.statuses: dict[str, JobStatus] = {}
        self.results: dict[str, Any] = {}
        self.units = self.service.runner.units
        self.commit_outcome = self.service.runner.commit
        self.database = self.service.runner.database

    @rule(target=jobs, gradients=st.integers(0, 1))
    def submit(self, gradients: int) -> str:
        job = self.service.submit(
            self.dataset_id, gradients={"sketch_dim": 4, "max_length": 128, "seed": self.seeds[gradients]}
        )
        self.statuses[job["id"]] = JobStatus.QUEUED
        return str(job["id"])

    @rule(target=claims, owner=st.sampled_from(["a", "b"]))
    def claim(self, owner: str) -> Any:
        claim = self.units.claim_next(owner)
        return multiple() if claim is None else claim

    @rule(claim=claims)
    def commit(self, claim: Claim) -> None:
        before = self.unit(claim.unit_id)
        with self.database.read() as session:
            made_before = Units(session).committed(claim.unit_id, claim.epoch) is not None
        holds = before.state == UnitState.LEASED and before.epoch == claim.epoch
        assert self.finish(claim) is (holds or made_before), "only the holder of the lease may commit"
        if not holds:
            after = self.unit(claim.unit_id)
            assert (after.state, after.epoch, after.generation) == (before.state, before.epoch, before.generation)

    def finish(self, claim: Claim) -> bool:
        """Commit something that only this claim can have made."""
        name = f"{claim.unit_id}.{claim.epoch}"
        if claim.kind == UnitKind.GRADIENTS:
            result = {"samples": 1, "tokens": 9, "seconds": 0.1, "device": "cpu"}
            return self.commit_outcome(claim, Outcome(f"{claim.epoch:064x}", result))
        if claim.kind == UnitKind.SELECT_PART:
            return self.commit_outcome(claim, Outcome(f"{claim.epoch:064x}", {"picks": 1}))
        pick = {"source_row": claim.epoch, "row_sha256": "0" * 64, "tokens": 1}
        numbers = dict.fromkeys(("gain", "base_gain", "epsilon", "conflict", "score"), 0.0)
        result, ranking = {"selected": 1, "made_by": name}, [{"rank": 1, **pick, **numbers}]
        return self.commit_outcome(claim, SelectionOutcome(None, {"selected": 1}, result, ranking, [], False))

    @rule(claim=claims)
    def heartbeat(self, claim: Claim) -> None:
        before = self.unit(claim.unit_id)
        reply = self.units.heartbeat(claim, Report("computing_gradients", 1, None, "samples", None))
        holds = before.state == UnitState.LEASED and before.epoch == claim.epoch
        assert reply.held is holds, "only the holder of the lease may renew it"

    @rule(claim=claims)
    def give_back(self, claim: Claim) -> None:
        self.units.release(claim)

    @rule(claim=claims, code=st.sampled_from(["internal", "proxy-invalid"]))
    def fail(self, claim: Claim, code: str) -> None:
        self.units.fail(claim, code, "made up")

    @rule(claim=claims)
    def lose_artifacts(self, claim: Claim) -> None:
        """A selection finds what its parts chose rotten, or, like a part, the shards of its gradient set."""
        if claim.kind not in {UnitKind.SELECT, UnitKind.SELECT_PART}:
            return
        assert claim.gradient_set_id is not None
        assert claim.job_id is not None
        with self.database.read() as session:
            mine = select(Unit.id).where(Unit.job_id == claim.job_id, Unit.kind == UnitKind.SELECT_PART)
            parts = list(session.scalars(mine)) if claim.kind == UnitKind.SELECT else []
            lost = parts or [unit.id for unit in Units(session).shards(claim.gradient_set_id)]
        self.units.recompute(claim, lost, "made up")

    @rule()
    def let_leases_run_out(self) -> None:
        with self.database.write() as session:
            session.execute(update(Unit).where(Unit.state == UnitState.LEASED).values(lease_until=clock(-1)))

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        ended = self.status(job_id) in TERMINAL
        answer = self.service.http.post(f"/v1/jobs/{job_id}/cancel")
        assert answer.status_code == (409 if ended else 202), answer.text

    @rule(job_id=jobs)
    def let_the_deadline_pass(self, job_id: str) -> None:
        with self.database.write() as session:
            session.execute(update(Job).where(Job.id == job_id).values(deadline_at=clock(-1)))

    @rule()
    def sweep(self) -> None:
        self.units.sweep()

    @precondition(lambda self: self.statuses)
    @rule()
    def notify(self) -> None:
        notified: list[str] = []
        self.units.notify(notified.append)
        assert len(set(notified)) == len(notified)
        for unit_id in notified:
            assert self.unit(unit_id).state in {UnitState.PENDING, UnitState.LEASED}

    @invariant()
    def jobs_only_move_forward_and_end_once(self) -> None:
        with self.database.read() as session:
            now = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(self.statuses)))}
            events = Counter(
                session.scalars(select(Event.job_id).where(Event.job_id.in_(self.statuses), Event.type.in_(ENDS)))
            )
            ranked = Counter(
                session.scalars(select(SelectedSample.job_id).where(SelectedSample.job_id.in_(self.statuses)))
            )
            files = list(session.scalars(select(File.name).where(File.job_id.in_(self.statuses))))
        assert not files
        for job_id, old in self.statuses.items():
            new = JobStatus(now[job_id].status)
            assert new == old or reachable(old, new), f"{old} became {new}"
            ended = new in TERMINAL
            assert events[job_id] == int(ended)
            assert (now[job_id].result is not None) >= (new == JobStatus.SUCCEEDED)
            assert ranked[job_id] == int(now[job_id].result is not None), "one result or none"
            if old in TERMINAL:
                assert now[job_id].result == self.results[job_id], "a result has changed"
            if ended:
                self.results[job_id] = now[job_id].result
            self.statuses[job_id] = new

    @invariant()
    def units_are_finished_once_by_their_holder(self) -> None:
        with self.database.read() as session:
            ours = select(Job.gradient_set_id).where(Job.id.in_(self.statuses))
            units = {unit.id: unit for unit in session.scalars(select(Unit).where(Unit.gradient_set_id.in_(ours)))}
            query = select(UnitCommit).where(UnitCommit.unit_id.in_(units)).order_by(UnitCommit.epoch)
            made: dict[str, list[UnitCommit]] = {unit_id: [] for unit_id in units}
            for commit in session.scalars(query):
                made[commit.unit_id].append(commit)
            over = set(session.scalars(select(Job.id).where(Job.id.in_(self.statuses), Job.status.in_(TERMINAL))))
        for unit in units.values():
            assert unit.job_id not in over or unit.state not in OPEN, "a unit of a job that has ended can never run"
            commits = made[unit.id]
            assert len({commit.generation for commit in commits}) == len(commits), "two commits of one generation"
            assert len(commits) <= unit.generation, "finished more often than it was asked for"
            if unit.state == UnitState.DONE:
                assert commits
                assert commits[-1].epoch == unit.epoch, "somebody committed who had lost the lease"
            assert (unit.lease_until is None) == (unit.state != UnitState.LEASED)
            if unit.kind == UnitKind.SELECT and unit.state == UnitState.DONE:
                parts = [part for part in units.values() if (part.job_id, part.kind) == (unit.job_id, "select_part")]
                assert all(made[part.id] for part in parts), "the second round came before the first was over"

    def teardown(self) -> None:
        """Workers come back: every accepted job ends."""
        self.let_leases_run_out()
        for _ in range(200):
            self.units.sweep()
            claim = self.units.claim_next("last")
            if claim is not None:
                assert self.finish(claim)
            elif all(self.status(job_id) in TERMINAL for job_id in self.statuses):
                break
        self.jobs_only_move_forward_and_end_once()
        self.units_are_finished_once_by_their_holder()
        lost = {job_id: status for job_id, status in self.statuses.items() if status not in TERMINAL}
        assert not lost, "accepted and never ended"

    def unit(self, unit_id: str) -> Unit:
        with self.database.read() as session:
            unit = Units(session).get(unit_id)
        assert unit is not None
        return unit

    def status(self, job_id: str) -> JobStatus:
        with self.database.read() as session:
            return JobStatus(session.scalars(select(Job.status).where(Job.id == job_id)).one())


class CutHistories(Histories):
    """Histories in which some jobs cut their pool into two parts."""

    jobs = Histories.jobs

    @rule(target=jobs, gradients=st.integers(0, 1))
    def submit_in_parts(self, gradients: int) -> str:
        job = self.service.submit(
            self.dataset_id,
            gradients={"sketch_dim": 4, "max_length": 128, "seed": self.seeds[gradients]},
            selection={"scope": {"kind": "partitioned", "parts": 2}},
        )
        self.statuses[job["id"]] = JobStatus.QUEUED
        return str(job["id"])


class JudgedHistories(CutHistories):
    """Histories with evaluations of a job that has a result.

    Attributes:
        judged: That job.
        holdout: A data set that judges its choice.
    """

    judged: ClassVar[str]
    holdout: ClassVar[str]

    claims = CutHistories.claims
    evaluations = Bundle("evaluations")

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[str, EvaluationStatus] = {}

    @rule(target=evaluations)
    def evaluate(self) -> str:
        made = self.service.http.post(
            "/v1/evaluations", json={"job_id": self.judged, "holdout_dataset_id": self.holdout}
        )
        assert made.status_code == 202, made.text
        self.asked[made.json()["id"]] = EvaluationStatus.QUEUED
        return str(made.json()["id"])

    @rule(evaluation_id=evaluations)
    def cancel_evaluation(self, evaluation_id: str) -> None:
        ended = self.asked[evaluation_id] not in EVALUATING
        answer = self.service.http.post(f"/v1/evaluations/{evaluation_id}/cancel")
        assert answer.status_code == (409 if ended else 202), answer.text

    @rule(claim=claims)
    def lose_losses(self, claim: Claim) -> None:
        """A training finds the plan rotten, the report the losses of trainings."""
        needs = {
            UnitKind.EVALUATION_TRAINING: UnitKind.EVALUATION_PLAN,
            UnitKind.EVALUATION_REPORT: UnitKind.EVALUATION_TRAINING,
        }
        if claim.kind in needs:
            mine = select(Unit.id).where(Unit.evaluation_id == claim.evaluation_id, Unit.kind == needs[claim.kind])
            with self.database.read() as session:
                lost = list(session.scalars(mine))
            self.units.recompute(claim, lost, "made up")

    def finish(self, claim: Claim) -> bool:
        name = f"{claim.epoch:064x}"
        if claim.kind == UnitKind.EVALUATION_PLAN:
            return self.commit_outcome(claim, PlanOutcome(name, {"arms": []}, TRAININGS, 3))
        if claim.kind == UnitKind.EVALUATION_TRAINING:
            return self.commit_outcome(claim, Outcome(name, {"arm": "random", "seed": claim.shard}))
        if claim.kind == UnitKind.EVALUATION_REPORT:
            return self.commit_outcome(
                claim, ReportOutcome(None, {"verdict": "cannot_tell"}, {"verdict": "cannot_tell", "sentence": name})
            )
        return super().finish(claim)

    @invariant()
    def evaluations_end_once_and_leave_nothing_open(self) -> None:
        if not self.asked:
            return
        with self.database.read() as session:
            mine = select(Evaluation).where(Evaluation.id.in_(self.asked))
            now = {evaluation.id: evaluation for evaluation in session.scalars(mine)}
            units = list(session.scalars(select(Unit).where(Unit.evaluation_id.in_(self.asked))))
            told = list(
                session.execute(select(Event.evaluation_id, Event.type).where(Event.evaluation_id.in_(self.asked)))
            )
            made = Counter(
                session.scalars(select(UnitCommit.unit_id).where(UnitCommit.unit_id.in_({u.id for u in units})))
            )
        for evaluation_id, old in self.asked.items():
            new = EvaluationStatus(now[evaluation_id].status)
            assert new == old or old in EVALUATING, f"{old} became {new}"
            assert (now[evaluation_id].result is not None) is (new == EvaluationStatus.SUCCEEDED)
            ends = [type_ for about, type_ in told if about == evaluation_id and type_ == f"evaluation.{new}"]
            assert len(ends) == 1, ends
            own = [unit for unit in units if unit.evaluation_id == evaluation_id]
            assert len(own) in {2, 2 + TRAININGS}, "a plan that was made twice was trained twice"
            assert new in EVALUATING or not OPEN & {unit.state for unit in own}, "a unit can never run"
            assert all(made[unit.id] <= unit.generation for unit in own)
            if new == EvaluationStatus.SUCCEEDED:
                assert all(unit.state == UnitState.DONE for unit in own)
            self.asked[evaluation_id] = new

    def teardown(self) -> None:
        super().teardown()
        self.evaluations_end_once_and_leave_nothing_open()
        assert not set(self.asked.values()) & set(EVALUATING), "accepted and never ended"


def reachable(old: JobStatus, new: JobStatus) -> bool:
    """Whether lawful moves lead from one state to the other; one call may make several."""
    return may_move(old, new) or any(may_move(old, via) and reachable(via, new) for via in JobStatus if via != old)


def play(service: InProcessService, histories: type[Histories], **changes: Any) -> None:
    """Play histories on a service."""
    judged = service.submit(service.push(jsonl(sums(4)))["id"], budget={"count": 2}, gradients={"sketch_dim": 4})["id"]
    service.drain()
    bound = {"service": service, "judged": judged, "holdout": service.push(jsonl(sums(4, 50)))["id"]}
    dataset = service.push(jsonl(sums(SHARDS * SHARD_ROWS)))
    machine = type("Bound", (histories,), {**bound, "dataset_id": dataset["id"]})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples(18, fast=10),
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
            **changes,
        ),
    )


@pytest.mark.examples
def test_whatever_happens_the_promises_hold(shared_service: InProcessService) -> None:
    play(shared_service, JudgedHistories)


def test_a_fence_that_is_down_is_noticed(shared_service: InProcessService, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("end_lease", "heartbeat"):
        monkeypatch.setattr(Units, name, getattr(Units, name))  # so that the protections are put back
    open_the_fence()
    with pytest.raises(AssertionError, match=r"only the holder of the lease may|somebody committed"):
        play(shared_service, CutHistories, phases=(Phase.generate,), report_multiple_bugs=False)


def test_units_that_are_left_open_are_noticed(service: InProcessService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OwnedUnits, "close", OwnedUnits.lock_last)
    with pytest.raises(AssertionError, match="can never run"):
        play(service, JudgedHistories, phases=(Phase.generate,), report_multiple_bugs=False)
