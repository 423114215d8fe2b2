"""The scan of `make check` finds what it is for, and says when it could not look."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.contracts.packages import ROOT


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_planted_secret_is_found(audit: ModuleType, tmp_path: Path) -> None:
    # Put together here, so that this file holds none.
    token = "ghp_" + "a1B2" * 9
    (tmp_path / "config.py").write_text(f'API = "x"\nTOKEN = "{token}"\n')
    (tmp_path / "key.txt").write_text("-----BEGIN " + "RSA PRIVATE KEY-----\nMIIE\n")
    (tmp_path / "clean.py").write_text("SIZE = 3\n")
    found = audit.secrets_in(tmp_path, ["config.py", "key.txt", "clean.py"])
    assert {line.split(":")[0] for line in found} == {"config.py", "key.txt"}


def test_a_known_weakness_fails_and_an_unanswered_question_does_not(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer = {"dependencies": [{"name": "a", "skip_reason": "not found"}]}
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=json.dumps(answer)))
    assert audit.advisories(tmp_path / "pins", 1) is None, "nobody was asked"
    assert audit.check_advisories() is True
    answer["dependencies"] += [
        {"name": "b", "version": "1", "vulns": []},
        {"name": "c", "version": "1", "vulns": [{"id": "CVE-1"}]},
    ]
    assert audit.advisories(tmp_path / "pins", 1) == {"c": ["CVE-1"]}
    assert audit.check_advisories() is False
