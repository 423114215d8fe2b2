"""The child process: limits that hold, deaths that harm nobody, progress, stopping, nothing left behind."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spice_select.errors import DatasetError, SpiceError, Stopped
from spice_select.ingest import IntakeLimits, IntakeOptions, read_dataset
from spice_select.ingest import process as module

pytestmark = pytest.mark.new_readers

LINE = b'{"instruction":"q","output":"a"}\n'


def refusal(source: Path, out: Path, **limits: Any) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        read_dataset(source, out, limits=IntakeLimits(**limits))
    assert list(out.iterdir()) == []
    return caught.value


def is_reader(process: psutil.Process) -> bool:
    """Whether a process has become a reader: not a server of other tests, nor a copy of ours on its way to one."""
    try:
        return "spice_select.ingest" in process.cmdline()
    except psutil.Error:  # it has just ended
        return False


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if is_reader(child)]


def test_a_refusal_crosses_the_process_border_whole(tmp_path: Path) -> None:
    source = tmp_path / "naïve \udcff.jsonl"  # a name that is no UTF-8
    source.write_bytes(LINE + b"{\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text("of an earlier run")
    error = refusal(source, tmp_path / "out")
    assert error.code == "dataset-invalid-json"
    assert error.detail.startswith("line 2: ")
    assert error.errors == [{"detail": error.detail, "pointer": "#/rows/1"}]


@pytest.mark.parametrize(("kind", "code"), [("missing", "dataset-unreadable"), ("folder", "dataset-empty")])
def test_a_source_that_holds_no_file(tmp_path: Path, kind: str, code: str) -> None:
    source = tmp_path / "source"
    if kind == "folder":
        source.mkdir()
    (tmp_path / "out").mkdir()
    assert refusal(source, tmp_path / "out").code == code


def bomb(kind: str) -> bytes:
    out = io.BytesIO()
    if kind == "one huge value":
        columns = {"instruction": ["q"], "output": ["a"], "x": [bytes(2**27)]}
        pq.write_table(pa.table(columns), out, compression="zstd", use_dictionary=False, write_statistics=False)
    else:
        # 16 MiB once in the file, two hundred times in memory.
        same = pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int32()), pa.array(["x" * 2**24]))
        pq.write_table(pa.table({"instruction": ["q"] * 200, "output": same}), out, compression="zstd")
    assert len(out.getvalue()) < 10**5
    return out.getvalue()


@pytest.mark.parametrize("kind", ["one huge value", "one value two hundred times"])
def test_a_bomb_hits_the_memory_limit_of_the_child_only(tmp_path: Path, kind: str) -> None:
    (tmp_path / "source").write_bytes(bomb(kind))
    error = refusal(tmp_path / "source", tmp_path / "out", memory_bytes=2**29)
    assert error.code == "dataset-unreadable"
    assert "memory" in error.detail


def test_processor_time_is_limited(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(LINE * 10**6)
    error = refusal(tmp_path / "source", tmp_path / "out", cpu_seconds=1)
    assert error.code == "dataset-unreadable"
    assert "processor time" in error.detail


def test_time_on_the_clock_is_limited(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(LINE * 10**6)
    error = refusal(tmp_path / "source", tmp_path / "out", wall_seconds=1.5)
    assert error.code == "dataset-unreadable"
    assert "longer than 1.5 seconds" in error.detail
    assert children() == []


def test_size_of_written_files_is_limited(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(10**6).hex().encode().join([b'{"text":"', b'"}\n']))
    error = refusal(tmp_path / "source", tmp_path / "out", max_output_bytes=10**5)
    assert error.code == "dataset-too-large"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("print('{\"rows\": 1}')", "no manifest"),
        ("print('rubbish')", "unreadable"),
        ("print('x' * 10**6)", "wild"),
        ('import sys; print(\'{"code":"dataset-empty","detail":"said so"}\'); sys.exit(3)', "said so"),
    ],
)
def test_whatever_becomes_of_the_child_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    # A real child that behaves as a crashing or captured reader would.
    start = subprocess.Popen

    def other_child(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return start([sys.executable, "-c", script], **options)

    monkeypatch.setattr(module.subprocess, "Popen", other_child)
    (tmp_path / "source").write_bytes(LINE)
    assert says in refusal(tmp_path / "source", tmp_path / "out").detail


def test_a_child_that_breaks_without_a_word_is_our_fault_and_not_that_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subprocess.Popen

    def broken_child(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return start([sys.executable, "-c", "import a_package_that_is_not_there"], **options)

    monkeypatch.setattr(module.subprocess, "Popen", broken_child)
    (tmp_path / "source").write_bytes(LINE)
    with pytest.raises(SpiceError, match="status 1") as caught:
        read_dataset(tmp_path / "source", tmp_path / "out")
    assert caught.value.code == "internal"


def test_stopping_ends_the_child_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(LINE * 10**6)
    seen: list[tuple[int, int, int]] = []
    started = time.monotonic()
    with pytest.raises(Stopped):
        read_dataset(
            tmp_path / "source",
            tmp_path / "out",
            on_progress=lambda *now: seen.append(now),
            should_stop=lambda: len(seen) >= 2,
        )
    assert time.monotonic() - started < 30
    assert children() == []
    assert list((tmp_path / "out").iterdir()) == []
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert all(total == len(LINE) * 10**6 for _, _, total in seen)


def observed(tmp_path: Path, look: Callable[[psutil.Process], Any]) -> Any:
    """What ``look`` says about a child that is in the middle of reading."""
    (tmp_path / "source").write_bytes(LINE * 10**6)
    found: list[Any] = []

    def stop(rows: int, done: int, total: int) -> None:
        found.append(look(children()[0]))

    with pytest.raises(Stopped):
        read_dataset(tmp_path / "source", tmp_path / "out", on_progress=stop, should_stop=lambda: bool(found))
    return found[0]


def test_the_child_inherits_no_secret_and_sits_in_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://canary")
    environment, folder, inside = observed(
        tmp_path, lambda child: (child.environ(), child.cwd(), list(Path(child.cwd()).iterdir()))
    )
    assert "canary" not in json.dumps(environment)
    assert set(environment) <= {
        "PYTHONPATH", "PYTHONHASHSEED", "PYTHONUTF8", "TZ", "TMPDIR", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
        "MALLOC_ARENA_MAX", "ARROW_DEFAULT_MEMORY_POOL", "LD_LIBRARY_PATH", "PATH", "LC_CTYPE",
        "PYDANTIC_DISABLE_PLUGINS",
    }  # fmt: skip
    assert inside == []
    assert not Path(folder).exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of another process are shown on Linux only")
def test_the_limits_hold_in_the_child(tmp_path: Path) -> None:
    kinds = (psutil.RLIMIT_AS, psutil.RLIMIT_CPU, psutil.RLIMIT_FSIZE, psutil.RLIMIT_CORE)
    limits = observed(tmp_path, lambda child: [child.rlimit(kind) for kind in kinds])
    usual = IntakeLimits()
    wanted = [usual.memory_bytes, usual.cpu_seconds, usual.max_output_bytes, 0]
    assert all(0 <= soft <= most and hard - soft in {0, 5} for (soft, hard), most in zip(limits, wanted, strict=True))


def test_a_child_whose_parent_is_gone_ends_by_itself(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(LINE * 10**6)
    script = (
        "import sys; from pathlib import Path; from spice_select.ingest import read_dataset\n"
        "read_dataset(Path(sys.argv[1]), Path(sys.argv[2]), on_progress=lambda *now: print(*now, flush=True))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "source"), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path.cwd())}) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        (child,) = filter(is_reader, psutil.Process(parent.pid).children())
        parent.kill()
    child.wait(timeout=20)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    line = json.dumps({"instruction": "q" * 300, "output": "a" * 700}).encode() + b"\n"

    def peak(rows: int) -> int:
        # Half of the rows are rejected, so that neither kind may pile up.
        (tmp_path / "source").write_bytes((line + b'{"instruction":"q","output":""}\n') * (rows // 2))
        most = 0
        done = threading.Event()

        def watch() -> None:
            nonlocal most
            while not done.wait(0.02):
                for child in children():
                    try:
                        most = max(most, child.memory_info().rss)
                    except psutil.Error:  # it has just ended
                        continue

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            read_dataset(tmp_path / "source", tmp_path / "out")
        finally:
            done.set()
            watcher.join()
        return most

    small, large = peak(4_000), peak(24_000)
    assert large < small + 16 * 2**20, (small, large)


def test_options_reach_the_child(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b'{"q":"x","a":"y"}\n')
    options = IntakeOptions(columns={"prompt": "q", "response": "a"})
    manifest = read_dataset(tmp_path / "source", tmp_path / "out", options)
    assert manifest.columns == {"prompt": "q", "response": "a"}
