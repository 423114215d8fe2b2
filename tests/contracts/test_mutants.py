"""Every fault of `make mutants` can be planted: its piece occurs once in its file, and its tests are there."""

from __future__ import annotations

import pytest

from tests.contracts.packages import ROOT
from tests.mutants.__main__ import FAULTS
from tests.mutants.fault import Fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_can_be_planted(fault: Fault) -> None:
    assert (ROOT / fault.file).read_text(encoding="utf-8").count(fault.old) == 1
    assert fault.new != fault.old
    assert fault.tests
    assert all((ROOT / name.partition("::")[0]).is_file() for name in fault.tests)
