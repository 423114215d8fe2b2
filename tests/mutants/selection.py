"""Faults of what is chosen."""

from __future__ import annotations

from tests.mutants.fault import Fault

_GREEDY = "tests/library/test_greedy.py"

SELECTION = (
    Fault(
        "conflicts are not subtracted",
        "selection",
        "spice_select/selection/scoring.py",
        "self.charged(self.weight * gains - self.penalty * conflicts, rows)",
        "self.charged(self.weight * gains, rows)",
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
        "a token budget takes the worse of its two runs",
        "selection",
        "spice_select/selection/greedy.py",
        "best, last = max(reversed(runs), key=",
        "best, last = min(reversed(runs), key=",
        (_GREEDY,),
    ),
    Fault(
        "a choice counts as settled although another row may be better",
        "selection",
        "spice_select/selection/scoring.py",
        "if float(bounds.max()) > proposal.best + tolerance.rounding:\n        return False",
        "if float(bounds.max()) > proposal.best + tolerance.rounding:\n        return True",
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
