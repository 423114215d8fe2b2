"""The faults: a file, an exact piece of it, what stands there instead, and the tests that are expected to notice.

A piece has to occur once in its file. When a change removes it, `make mutants` says so; move the fault to where the
same decision is made now, rather than dropping it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Area = Literal["selection", "gradients", "units", "http"]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: What goes wrong.
        area: Part of the product.
        file: Path from the root of the checkout.
        old: What is there.
        new: The fault.
        tests: Files of tests that are expected to notice, the likeliest first.
    """

    name: str
    area: Area
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_GREEDY = "tests/library/test_greedy.py"
_GRADIENTS = "tests/library/test_gradients.py"
_UNITS = "tests/service/test_units.py"
_STATES = "tests/service/test_state_machine.py"

SELECTION = (
    Fault(
        "conflicts are not subtracted",
        "selection",
        "spice_select/selection/scoring.py",
        "scores, tolerances = gains - penalties, TIE * (gains + penalties)",
        "scores, tolerances = gains, TIE * (gains + penalties)",
        (_GREEDY,),
    ),
    Fault(
        "a tie goes to the higher row",
        "selection",
        "spice_select/selection/scoring.py",
        "place = int(tied[rows[tied].argmin()])",
        "place = int(tied[rows[tied].argmax()])",
        (_GREEDY,),
    ),
    Fault(
        "the early stop compares with the ratio alone",
        "selection",
        "spice_select/selection/greedy.py",
        "gain <= config.stop_ratio * first:",
        "gain <= config.stop_ratio:",
        (_GREEDY,),
    ),
    Fault(
        "agreement counts as conflict",
        "selection",
        "spice_select/selection/conflict.py",
        "torch.clamp(-products",
        "torch.clamp(products",
        ("tests/library/test_conflict.py",),
    ),
    Fault(
        "the base gain leaves out the Fisher scale",
        "selection",
        "spice_select/selection/greedy.py",
        "torch.log1p(config.alpha * candidates.squared_norms.cpu()[indices])",
        "torch.log1p(candidates.squared_norms.cpu()[indices])",
        ("tests/library/test_diagnostics.py", _GREEDY),
    ),
    Fault(
        "the utility of what was given counts as that of the choice",
        "selection",
        "spice_select/selection/greedy.py",
        "log_determinant(torch.cat([given, chosen]), alpha) - log_determinant(given, alpha)",
        "log_determinant(torch.cat([given, chosen]), alpha)",
        ("tests/library/test_allowance.py", "tests/library/test_conditions.py"),
    ),
    Fault(
        "a row that costs exactly what is left does not fit",
        "selection",
        "spice_select/selection/budget.py",
        "self._open &= needs <= left",
        "self._open &= needs < left",
        ("tests/library/test_allowance.py",),
    ),
    Fault(
        "a cap is never used up",
        "selection",
        "spice_select/selection/budget.py",
        "self._room[code] -= 1",
        "self._room[code] -= 0",
        ("tests/library/test_allowance.py",),
    ),
    Fault(
        "a token budget takes the first of its two runs",
        "selection",
        "spice_select/selection/greedy.py",
        "best, last = max(reversed(runs), key=lambda run: run[0].utility)",
        "best, last = runs[0]",
        (_GREEDY,),
    ),
    Fault(
        "a choice counts as settled although a lower row may tie",
        "selection",
        "spice_select/selection/scoring.py",
        "(rows[bounds >= proposal.score - tolerance] < proposal.row).any()",
        "(rows[bounds >= proposal.score - tolerance] < 0).any()",
        (_GREEDY, "tests/library/test_surrogates.py"),
    ),
    Fault(
        "a bound leaves out the part of a sample that still fits",
        "selection",
        "spice_select/selection/certificate.py",
        "best += float(gains[order[whole]]) * left / float(costs[order[whole]])",
        "best += 0.0 * left",
        ("tests/library/test_diagnostics.py",),
    ),
    Fault(
        "farthest first keeps the distance to the latest center only",
        "selection",
        "spice_select/selection/coverage.py",
        "self._squared[part] = torch.minimum(self._squared[part], squared)",
        "self._squared[part] = squared",
        ("tests/library/test_baselines.py",),
    ),
)

GRADIENTS = (
    Fault(
        "each position learns its own token",
        "gradients",
        "spice_select/gradients/batching.py",
        "torch.tensor(example.labels[1:], dtype=torch.int64)",
        "torch.tensor(example.labels[:-1], dtype=torch.int64)",
        ("tests/library/test_batches.py", _GRADIENTS),
    ),
    Fault(
        "the mean loss is a sum",
        "gradients",
        "spice_select/gradients/forward.py",
        'self.mean = config.loss == "mean"',
        "self.mean = False",
        (_GRADIENTS,),
    ),
    Fault(
        "a sketch is scaled by the size and not by its root",
        "gradients",
        "spice_select/gradients/projection.py",
        "scale /= math.sqrt(shape.p_out)",
        "scale /= shape.p_out",
        ("tests/library/test_sketch.py",),
    ),
    Fault(
        "both sides of a layer are projected by the same signs",
        "gradients",
        "spice_select/gradients/projection.py",
        '_signs(f"{layer}|out|{seed}"',
        '_signs(f"{layer}|in|{seed}"',
        ("tests/library/test_sketch.py",),
    ),
    Fault(
        "the scale of an adapter is upside down",
        "gradients",
        "spice_select/gradients/targets.py",
        "scale *= config.lora_alpha / config.lora_rank",
        "scale *= config.lora_rank / config.lora_alpha",
        (_GRADIENTS,),
    ),
    Fault(
        "the gradient of Conv1D is transposed",
        "gradients",
        "spice_select/gradients/hooks.py",
        "left, right = (kept, outputs) if target.inputs_first else (outputs, kept)",
        "left, right = (outputs, kept)",
        (_GRADIENTS,),
    ),
    Fault(
        "the slope of a squashed logit is left out",
        "gradients",
        "spice_select/gradients/loss.py",
        "1 - (logits / head.softcap) ** 2",
        "torch.ones_like(logits)",
        ("tests/library/test_loss.py",),
    ),
    Fault(
        "the scale of the logits is left out of their gradient",
        "gradients",
        "spice_select/gradients/loss.py",
        "return losses, gradient if head.scale is None else gradient.mul_(head.scale)",
        "return losses, gradient",
        ("tests/library/test_loss.py",),
    ),
    Fault(
        "logits are not shifted before they are raised",
        "gradients",
        "spice_select/gradients/loss.py",
        "logits.sub_(logits.amax(dim=1, keepdim=True))",
        "logits.sub_(0.0)",
        ("tests/library/test_loss.py",),
    ),
    Fault(
        "positions after padding on the left begin at one",
        "gradients",
        "spice_select/gradients/batching.py",
        "(batch.attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)",
        "batch.attention_mask.long().cumsum(dim=1)",
        (_GRADIENTS,),
    ),
    Fault(
        "the last token of a packed sample learns the first of the next",
        "gradients",
        "spice_select/gradients/batching.py",
        "targets = [[*example.labels[1:], IGNORED] for example in examples]",
        "targets = [[*example.labels[1:], example.labels[-1]] for example in examples]",
        ("tests/library/test_packed.py",),
    ),
    Fault(
        "a gradient that is not finite reaches the result",
        "gradients",
        "spice_select/gradients/per_sample.py",
        "features = torch.where(finite.unsqueeze(1), features, 0.0)",
        "features = features * 1.0",
        (_GRADIENTS,),
    ),
)

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
        (_UNITS, "tests/service/test_queue.py"),
    ),
    Fault(
        "a set is ready with its first shard",
        "units",
        "app/services/units/commits.py",
        "if not units.unfinished_shards(claim.gradient_set_id):",
        "if units.shards(claim.gradient_set_id):",
        (_UNITS, "tests/service/test_jobs.py", _STATES),
    ),
    Fault(
        "a retry after a lost answer counts as stale",
        "units",
        "app/services/units/commits.py",
        "return Units(session).committed(claim.unit_id, claim.epoch) is not None",
        "return False",
        (_UNITS, "tests/workers/test_worst_moments.py"),
    ),
    Fault(
        "a job that was being stopped succeeds",
        "units",
        "app/services/units/commits.py",
        "stopped = job.status == JobStatus.CANCELLING",
        "stopped = False",
        (_STATES, _UNITS),
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
)

HTTP = (
    Fault(
        "a list ignores the state that is asked for",
        "http",
        "app/persistence/repositories/listing.py",
        "query = query.where(table.status == self.status)",
        "query = query.where(table.status.is_not(None))",
        ("tests/service/test_datasets.py", "tests/service/test_conditions.py", "tests/service/test_walk.py"),
    ),
    Fault(
        "the cursor of another list is taken",
        "http",
        "app/api/pagination.py",
        '_position(cursor, f"{prefix}_{ULID}")',
        '_position(cursor, f"[a-z]+_{ULID}")',
        ("tests/service/test_slips.py", "tests/service/test_datasets.py"),
    ),
    Fault(
        "a key has one request more than its quota",
        "http",
        "app/api/rate_limit.py",
        "exceeded = used >= self.quota",
        "exceeded = used > self.quota",
        ("tests/service/test_auth.py",),
    ),
    Fault(
        "If-Match is not looked at when a file is read",
        "http",
        "app/api/file_response.py",
        'if wanted and not wanted & {etag, "*"}:',
        "if wanted and False:",
        ("tests/service/test_files.py",),
    ),
    Fault(
        "a range behind the end of a file is let through",
        "http",
        "app/api/file_response.py",
        "            if not kept:\n",
        "            if False:\n",
        ("tests/service/test_files.py",),
    ),
    Fault(
        "a key that is named twice in JSON is taken",
        "http",
        "app/api/strict_json.py",
        "if len(value) != len(pairs):",
        "if len(value) > len(pairs):",
        ("tests/service/test_bad_inputs.py",),
    ),
    Fault(
        "the scope of an API key is not looked at",
        "http",
        "app/api/deps.py",
        "if not found.may(needed):",
        "if False:",
        ("tests/service/test_auth.py",),
    ),
    Fault(
        "a body may be as large as it likes",
        "http",
        "app/api/middleware.py",
        "                if received > limit:",
        "                if received < 0:",
        ("tests/service/test_bad_inputs.py", "tests/service/test_datasets.py"),
    ),
    Fault(
        "If-Match is not looked at when something changes",
        "http",
        "app/services/if_match.py",
        "if expected is not None and version not in expected:",
        "if expected is not None and False:",
        ("tests/service/test_job_edits.py", "tests/service/test_etags.py"),
    ),
    Fault(
        "an Idempotency-Key with another body answers with the first call",
        "http",
        "app/services/idempotency.py",
        "if known.request_sha256 != request_sha256:",
        "if known.request_sha256 == '':",
        ("tests/service/test_jobs.py", "tests/service/test_slips.py"),
    ),
    Fault(
        "a job of another project can be read",
        "http",
        "app/persistence/repositories/jobs.py",
        """    Job.id == bindparam("job_id"), Job.project_id == bindparam("project_id"), Job.deleted_at.is_(None)
)
_HOLD""",
        """    Job.id == bindparam("job_id"), bindparam("project_id").is_not(None), Job.deleted_at.is_(None)
)
_HOLD""",
        ("tests/service/test_auth.py",),
    ),
    Fault(
        "a stream begins anew whatever Last-Event-ID says",
        "http",
        "app/api/sse.py",
        "        after = number_of(given)\n",
        "        number_of(given)\n",
        ("tests/service/test_events.py",),
    ),
    Fault(
        "any text is taken for a request id",
        "http",
        "app/api/middleware.py",
        "given.decode() if REQUEST_ID.fullmatch(given) else",
        'given.decode("latin-1") if given else',
        ("tests/service/test_problems.py", "tests/service/test_slips.py", "tests/service/test_standards.py"),
    ),
)

FAULTS = (*SELECTION, *GRADIENTS, *UNITS, *HTTP)
