"""A run with ``batch_tokens="auto"``: settled once, recorded, the same when it is continued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import spice_select as ss
from spice_select.config import PeriodicSchedule, WindowsScope
from spice_select.errors import Stopped
from spice_select.gradients import auto_batches
from spice_select.pipeline.gradients import remembered_batches
from spice_select.pipeline.run import RunProgress, RunResult, run
from spice_select.results.verify import verify_folder
from spice_select.results.write import DATED, STATED
from spice_select.storage.shards import read_shard
from tests.fixtures.results import alpaca, jsonl

SMALL: dict[str, Any] = {"sketch_dim": 4, "max_length": 64}


def config(batch_tokens: Any, *, periodic: bool = False, **gradients: Any) -> ss.RunConfig:
    scope = {"scope": WindowsScope(kind="windows", size=12)} if periodic else {}
    schedule = {"schedule": PeriodicSchedule(kind="periodic", steps_every=1)} if periodic else {}
    return ss.RunConfig(
        gradients=ss.GradientConfig(**SMALL, batch_tokens=batch_tokens, **gradients),
        selection=ss.SelectionConfig(budget=ss.Budget(count=6), **scope),
        **schedule,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "pool.jsonl"
    path.write_bytes(jsonl(alpaca(40)))
    return path


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory is left: batches get no larger than the longest row, 64 tokens."""
    monkeypatch.setattr(auto_batches, "free_bytes", lambda _device: 0)


def told(result: RunResult) -> tuple[Any, Any]:
    build = result.statement["predicate"]["buildDefinition"]
    asked = build["internalParameters"].get("batchTokensRequested")
    return asked, build["externalParameters"]["config"]["gradients"]["batch_tokens"]


def test_a_run_settles_once_and_stays_with_it(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full(monkeypatch)
    cache = tmp_path / "cache"
    first = run(source, config("auto"), tmp_path / "out", cache=cache)
    assert told(first) == ("auto", 64)
    verify_folder(tmp_path / "out")
    [shard] = (cache / "gradients").iterdir()
    assert read_shard(shard).header["batch_tokens"] == 64
    monkeypatch.undo()  # plenty of memory: another number, were it asked again
    again = run(source, config("auto"), cache=cache)
    assert again.gradients_reused
    assert told(again) == ("auto", 64)
    number = run(source, config(64), tmp_path / "number", cache=cache)
    assert number.gradients_reused, "the number is what is recorded, not the word"
    assert told(number) == (None, 64)
    for name in set(STATED) - DATED:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "number" / name).read_bytes(), name
    fresh = run(source, config("auto"))
    assert told(fresh) == ("auto", 2048)


def test_a_run_that_was_stopped_goes_on_with_the_number_of_its_beginning(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(monkeypatch)
    straight = run(source, config("auto", periodic=True), cache=tmp_path / "straight")
    assert told(straight) == ("auto", 64)
    cache, seen = tmp_path / "cache", list[RunProgress]()

    def after_two_windows() -> bool:
        return bool(seen) and seen[-1].phase == "choosing_windows" and seen[-1].completed >= 24

    part = run(
        source, config("auto", periodic=True), cache=cache, on_progress=seen.append, should_stop=after_two_windows
    )
    assert part.selection.partial
    monkeypatch.undo()
    done = run(source, config("auto", periodic=True), cache=cache)
    assert told(done) == ("auto", 64)
    assert [row.row_sha256 for row in done.ranking] == [row.row_sha256 for row in straight.ranking]
    assert done.selection.gains == straight.selection.gains


@pytest.mark.parametrize("kept", [b"", b"[]", b'{"batch_tokens": "auto"}', b'{"batch_tokens": true}', b"{}"])
def test_a_record_that_says_nothing_counts_as_none(tmp_path: Path, kept: bytes) -> None:
    record = tmp_path / "record.json"
    assert remembered_batches(record) is None
    record.write_bytes(kept)
    assert remembered_batches(record) is None
    record.write_bytes(b'{"batch_tokens": 64}')
    assert remembered_batches(record) == 64


def test_a_rotten_record_is_written_anew(source: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(source, config("auto"), cache=tmp_path, should_stop=lambda: any((tmp_path / "batches").glob("*.json")))
    [record] = (tmp_path / "batches").iterdir()
    assert json.loads(record.read_bytes()) == {"batch_tokens": 2048}
    record.write_bytes(b'{"batch_tokens": 1}')
    assert told(run(source, config("auto"), cache=tmp_path)) == ("auto", 2048)
    assert json.loads(record.read_bytes()) == {"batch_tokens": 2048}


def test_a_warm_up_in_half_precision_comes_first_as_ever(source: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"dtype": "bfloat16", "warmup_steps": 1}
    source.with_name("few.jsonl").write_bytes(jsonl(alpaca(8)))
    source = source.with_name("few.jsonl")
    auto = run(source, config("auto", **settings), cache=tmp_path / "a")
    number = run(source, config(2048, **settings), cache=tmp_path / "b")
    assert auto.selection.gains == number.selection.gains
    [one], [two] = ((tmp_path / name / "gradients").iterdir() for name in "ab")
    assert one.read_bytes() == two.read_bytes()
