"""The blocking client is what the generator writes, and the check notices when it is not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.contracts.packages import ROOT


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_client", ROOT / ".ci" / "generate_client.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr("sys.argv", ["generate_client.py", "--check"])
    return module


def test_the_committed_client_is_what_the_generator_writes(generator: ModuleType) -> None:
    assert generator.main() == 0


def test_a_stale_file_is_named(
    generator: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in generator.TARGET.glob("*.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "jobs.py").write_text("changed by hand\n")
    (tmp_path / "datasets.py").unlink()
    (tmp_path / "more.py").write_text("left over\n")
    monkeypatch.setattr(generator, "TARGET", tmp_path)
    assert generator.main() == 1
    stale = [line.split()[0].rsplit("/", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert stale == ["datasets.py", "jobs.py", "more.py"]


def test_nothing_asynchronous_is_left_in_the_blocking_client(generator: ModuleType) -> None:
    words = ("async ", "await ", "asyncio", "Async", "_async.")
    assert not [
        (path.name, line)
        for path in generator.TARGET.glob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()[1:]
        if any(word in line for word in words)
    ]
