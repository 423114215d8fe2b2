"""The one table: figures that are kept with what they measured, and that say so when the code has moved on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as table
from benchmarks.registry import BENCHMARKS, Benchmark, Figure


def entry(name, found, code=None):
    machine = {"torch": "2", "processor": "a processor"}
    about = {"date": "2026-11-30", "command": "python -m x", "peers": "none", "machine": machine}
    return {name: {**about, "code": code or BENCHMARKS[name].digest(), "found": found}}


def test_a_figure_of_other_code_is_shown_as_old_and_one_of_the_present_code_is_not():
    found = {"ready_s": 2.44, "models_s": 2.9}
    present = table.table(entry("worker_start", found), age=True)
    assert present[2].split(" | ")[2:] == ["2.44", "&lt;= 3.5", "2026-11-30", "present |"]
    old = table.table(entry("worker_start", found, code="0123"), age=True)
    assert old[2].endswith("| **old** |")
    assert any("`scale`" in line and "not measured" in line for line in old)


def test_the_digest_follows_every_file_that_is_measured_and_the_arguments(tmp_path):
    for name in ("benchmarks/one.py", "code/a.py", "code/b.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    made = Benchmark("benchmarks.one", (), ("code/*.py",), "none", ())
    digests = {made.digest(tmp_path)}
    digests.add(Benchmark("benchmarks.one", ("--more",), ("code/*.py",), "none", ()).digest(tmp_path))
    for name in ("benchmarks/one.py", "code/b.py"):
        (tmp_path / name).write_text("2")
        digests.add(made.digest(tmp_path))
    (tmp_path / "code/b.py").rename(tmp_path / "code/c.py")
    digests.add(made.digest(tmp_path))
    assert len(digests) == 5
    with pytest.raises(ValueError, match="no file"):
        Benchmark("benchmarks.one", (), ("gone/*.py",), "none", ()).digest(tmp_path)


def test_a_figure_is_found_in_lists_and_is_missing_where_it_was_not_measured():
    found = {"rows": [{"n": 1, "x": {"y": 2}}, {"n": 10, "x": {"y": 3}}]}
    assert Figure("what", ("rows", "n=10", "x", "y")).value(found) == 3
    assert Figure("what", ("rows", "n=11", "x", "y")).value(found) is None
    assert Figure("what", ("none", "y")).value(found) is None


def test_the_page_holds_the_kept_figures():
    kept = json.loads(table.RESULTS.read_text(encoding="utf-8"))
    assert set(kept) <= set(BENCHMARKS)
    assert table.block(kept) in table.PAGE.read_text(encoding="utf-8")
    for name in kept:
        assert [line for line in table.table(kept, age=False) if f"`{name}`" in line and "not measured" not in line]


def test_every_benchmark_of_the_table_is_there_and_has_its_digest(tmp_path):
    for name, benchmark in BENCHMARKS.items():
        assert len(benchmark.digest()) == 12
        assert benchmark.peers, name
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.write_page(page, {})
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")
    assert "old" not in page.read_text()


def test_what_needs_data_that_is_not_here_is_not_measured(monkeypatch, capsys):
    monkeypatch.delenv("SPICE_EVIDENCE_DATA", raising=False)
    assert table.measure(BENCHMARKS["contamination"]) is None
    assert "SPICE_EVIDENCE_DATA is not set" in capsys.readouterr().out


def test_an_unknown_benchmark_is_refused_by_name():
    command = [sys.executable, "-m", "benchmarks", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == 2
    assert "no such benchmark: nothing; there are worker_start" in done.stderr.replace("\n", " ")
