"""``python -m examples.demo``, as ``make demo`` runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from spice_select.results.result_folder import MEDIA_TYPES
from spice_select.results.signature import ENVELOPE_FILE
from spice_select.results.verify import verify_folder

ROOT = Path(__file__).resolve().parents[2]


def environment(folder: Path) -> dict[str, str]:
    # The service's data lies below the test's folder, so that its processes can be told from others.
    (folder / "scratch").mkdir()
    (folder / "work").mkdir()
    return {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "scratch")}


def processes_of(folder: Path) -> list[int]:
    found = psutil.process_iter(["cmdline"])
    return [process.pid for process in found if str(folder) in " ".join(process.info["cmdline"] or [])]


def test_the_demo_ends_with_one_line_of_json_and_verified_files(tmp_path: Path) -> None:
    env, work = environment(tmp_path), tmp_path / "work"
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo"],
        cwd=work, env=env, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    *human, last = done.stdout.splitlines()
    summary = json.loads(last)
    assert set(summary) == {"job_id", "status", "selected", "pool", "files"}
    assert (summary["status"], summary["selected"], summary["pool"]) == ("succeeded", 60, 598)
    assert set(summary["files"]) == {*MEDIA_TYPES, ENVELOPE_FILE}
    assert all((work / path).is_file() for path in summary["files"].values())
    assert verify_folder(work / "demo-output", ROOT / "examples" / "bundled.jsonl").ok
    table = "\n".join(human)
    lines = (work / "demo-output" / "selected.jsonl").read_text(encoding="utf-8").splitlines()
    labels = Counter(json.loads(line)["label"] for line in lines)
    groups = Counter(json.loads(line)["group"] for line in lines)
    assert labels["junk"] <= 0.5 * 60 * 60 / 598, "at most half its share of the pool"
    assert labels["contradiction"] <= 60 * 48 / 598
    assert labels["duplicate"] <= 60 * 72 / 598
    assert all(0.25 <= groups[group] / 60 <= 0.42 for group in ("math", "code", "general")), groups
    for word in ("picks", "gain", "conflict", "tokens kept", "certificate", "seconds", "duplicate", "junk"):
        assert word in table
    assert not processes_of(tmp_path), "the demo leaves no process behind"
    assert [path.name for path in work.iterdir()] == ["demo-output"], "nor a file beside its output"
    assert not list((tmp_path / "scratch").glob("spice-*"))


@pytest.mark.soak
def test_a_demo_that_fails_shows_what_the_service_said(tmp_path: Path) -> None:
    code = (
        "import examples.demo as demo\n"
        "from pathlib import Path\n"
        "demo.BUNDLED = Path('broken.jsonl')\n"
        "raise SystemExit(demo.main())\n"
    )
    env, work = environment(tmp_path), tmp_path / "work"
    (work / "broken.jsonl").write_text('{"text": \n')
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=work, env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "demo failed: the bundled data set is invalid" in done.stderr
    assert "worker_started" in done.stderr.partition("the last the service said:")[2]
    assert "Traceback" not in done.stderr
    assert not processes_of(tmp_path)
