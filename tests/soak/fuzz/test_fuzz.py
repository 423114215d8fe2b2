"""Hundreds of hostile files, the same ones each time; ``python -m tests.soak.fuzz`` goes on for minutes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from spice_select.ingest.manifest import DatasetManifest
from tests.soak.fuzz import child
from tests.soak.fuzz.mutants import mutant
from tests.soak.fuzz.run import report, run

FILES = 800
GOOD = b'{"instruction":"q","output":"a"}\n{"instruction":"q","output":""}\n'


def test_no_hostile_file_finds_a_hole_in_the_readers(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(seed, 800, files=FILES)
    with capsys.disabled():
        print("\n" + report(outcome, seed))
    assert outcome.faults == []
    assert outcome.ends.total() == FILES
    assert outcome.ends["ready"] > 5, "hardly a file was good: only the first lines of the readers were tried"
    assert len(outcome.ends) > 5, "hardly a reason to refuse was tried"


def test_the_same_number_is_the_same_file() -> None:
    assert [mutant(7, number) for number in range(40)] == [mutant(7, number) for number in range(40)]


def test_an_error_that_the_readers_do_not_expect_is_a_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert child.read(GOOD, tmp_path) == "ready"

    def broken(*_: object) -> DatasetManifest:
        raise KeyError("x")

    monkeypatch.setattr(child, "parse", broken)
    assert child.read(GOOD, tmp_path).startswith("hole: KeyError")


def test_rows_that_do_not_add_up_are_a_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = child.parse

    def careless(*arguments: object) -> DatasetManifest:
        manifest = whole(*arguments)  # type: ignore[arg-type]
        return manifest.model_copy(update={"num_usable": manifest.num_usable + 1, "num_rows": manifest.num_rows + 1})

    monkeypatch.setattr(child, "parse", careless)
    assert child.read(GOOD, tmp_path) == "hole: 1 of 2 rows can be read"


def test_a_reader_that_dies_is_known_by_the_number_of_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [{"number": 4, "end": "ready", "seconds": 0}, {"number": 5}]
    monkeypatch.setattr("tests.soak.fuzz.run._child", lambda *_: (words, -9))
    # A clock of its own: the service of another test may be running in a thread of this process.
    clock = SimpleNamespace(monotonic=iter([0.0, 0.5, 2.0]).__next__)
    monkeypatch.setattr("tests.soak.fuzz.run.time", clock)
    assert run(1, 1.0).faults == [(5, "the reader ended with status -9")]
