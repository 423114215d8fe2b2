"""Faults of leases, turns and commits."""

from __future__ import annotations

from tests.mutants.fault import Fault

_UNITS = "tests/service/test_units.py"
_STATES = "tests/service/test_state_machine.py"

UNITS = (
    Fault(
        "a commit does not look at the epoch",
        "units",
        "app/persistence/repositories/units.py",
        """            .where(Unit.id == unit_id, Unit.epoch == epoch, Unit.state == UnitState.LEASED)
            .values(**values, state=state""",
        """            .where(Unit.id == unit_id, Unit.state == UnitState.LEASED)
            .values(**values, state=state""",
        (_UNITS, _STATES),
    ),
    Fault(
        "a heartbeat does not look at the epoch",
        "units",
        "app/persistence/repositories/units.py",
        """            .where(Unit.id == unit_id, Unit.epoch == epoch, Unit.state == UnitState.LEASED)
            .values(**values, lease_until""",
        """            .where(Unit.id == unit_id, Unit.state == UnitState.LEASED)
            .values(**values, lease_until""",
        (_UNITS, _STATES),
    ),
    Fault(
        "a claim keeps the epoch",
        "units",
        "app/persistence/repositories/units.py",
        """                state=UnitState.LEASED,
                epoch=Unit.epoch + 1,""",
        """                state=UnitState.LEASED,
                epoch=Unit.epoch + 0,""",
        (_UNITS,),
    ),
    Fault(
        "lost leases are not counted",
        "units",
        "app/persistence/repositories/units.py",
        "lost_leases=Unit.lost_leases + lost,",
        "lost_leases=Unit.lost_leases + 0 * lost,",
        (_UNITS,),
    ),
    Fault(
        "a lease can be taken before it has run out",
        "units",
        "app/persistence/repositories/scheduling.py",
        "Unit.lease_until < clock(), Unit.lost_leases + 1 < max_lost_leases",
        "Unit.lease_until.is_not(None), Unit.lost_leases + 1 < max_lost_leases",
        (_UNITS,),
    ),
    Fault(
        "a selection does not wait for its gradients",
        "units",
        "app/persistence/repositories/scheduling.py",
        """            gradients_are_ready,
            targets_are_ready,""",
        """            targets_are_ready,""",
        (_UNITS,),
    ),
    Fault(
        "the lowest priority goes first",
        "units",
        "app/persistence/repositories/scheduling.py",
        "func.coalesce(priority, 0).desc()",
        "func.coalesce(priority, 0).asc()",
        ("tests/service/test_queue.py", _UNITS),
    ),
    Fault(
        "a project's limit counts leases that have run out",
        "units",
        "app/persistence/repositories/scheduling.py",
        "            other.lease_until >= clock(),\n",
        "",
        ("tests/service/test_queue.py",),
    ),
    Fault(
        "a set is ready with its first shard",
        "units",
        "workers/units/gradients.py",
        "if Units(session).unfinished_shards(claim.gradient_set_id):",
        "if not Units(session).shards(claim.gradient_set_id):",
        (_UNITS, "tests/service/test_jobs.py", _STATES),
    ),
    Fault(
        "a retry after a lost answer counts as stale",
        "units",
        "app/services/units/commits.py",
        "return units.committed(claim.unit_id, claim.epoch) is not None",
        "return False",
        (_UNITS, "tests/workers/test_worst_moments.py"),
    ),
    Fault(
        "a job that was being stopped succeeds",
        "units",
        "workers/units/select.py",
        "stopped = job.status == JobStatus.CANCELLING",
        "stopped = False",
        ("tests/service/test_jobs.py", _STATES),
    ),
    Fault(
        "a unit that is made again keeps its generation",
        "units",
        "app/persistence/repositories/units.py",
        "generation=Unit.generation + 1,",
        "generation=Unit.generation + 0,",
        (_UNITS, "tests/workers/test_run_unit.py", _STATES),
    ),
    Fault(
        "workers are notified of a unit again and again",
        "units",
        "app/persistence/repositories/units.py",
        "silent = or_(silent, Unit.notified_at < clock(-notify_seconds))",
        "silent = or_(silent, Unit.notified_at.is_not(None))",
        (_UNITS,),
    ),
    Fault(
        "a clock that was set back is not noticed",
        "units",
        "app/services/units/service.py",
        "        self._undo_clock_step()\n",
        "",
        ("tests/service/test_clock_steps.py",),
    ),
    Fault(
        "a lease from before a step of the clock lasts until the clock has caught up",
        "units",
        "app/persistence/repositories/clock_steps.py",
        '{"lease_until": clock(lease_seconds)}',
        '{"lease_until": Unit.lease_until}',
        ("tests/service/test_clock_steps.py",),
    ),
    Fault(
        "a slow receiver is not parked",
        "units",
        "workers/background/webhook_sender.py",
        "            if seconds > SLOW_SECONDS:\n",
        "            if seconds < 0:\n",
        ("tests/service/test_webhooks.py",),
    ),
    Fault(
        "priority goes before fairness between projects",
        "units",
        "app/persistence/repositories/scheduling.py",
        "return (*urgent, *fair, *age) if across_projects else (*fair, *urgent, *age)",
        "return (*urgent, *fair, *age)",
        ("tests/service/test_queue.py",),
    ),
    Fault(
        "a worker takes units from the tables of another build",
        "units",
        "workers/run_unit.py",
        "return self.tables.are_own() and self.folder.is_here()",
        "return self.folder.is_here()",
        ("tests/service/test_migrations.py",),
    ),
)
