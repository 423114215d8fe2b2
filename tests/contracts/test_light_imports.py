"""What may be imported where no torch is: proved in a fresh process that has nothing but the packages it is allowed.

The import contracts read source text and do not see a package's ``__init__`` run, nor imports made by name; this does.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet
import pytest

from spice_select.ingest.manifest import IntakeLimits, IntakeOptions
from spice_select.ingest.process import ChildTask
from tests.conftest import SEED
from tests.contracts.packages import ROOT, closure, direct_requirements, import_names
from tests.fixtures.results import MadeResult, alpaca, jsonl, make_result

OURS = ["spice_select", "app", "workers", "migrations"]
HEAVY = ["torch", "transformers", "peft", "numpy"]

# Every third-party package that is not allowed looks as if it were not installed.
CHILD = """
import importlib, json, sys
allowed, heavy, modules = json.loads(sys.argv[1])
for name in heavy:
    sys.modules[name] = None
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in allowed or top.startswith("_"):
            return None
        raise ModuleNotFoundError(f"{top} is not part of this install", name=top)
sys.meta_path.insert(0, Refuse())
for module in modules:
    importlib.import_module(module)
"""
VERIFY = """
from pathlib import Path
from spice_select.results.verify import verify_folder
print(json.dumps([check._asdict() for check in verify_folder(*map(Path, sys.argv[2:])).checks]))
"""

INSTALLS = {
    "client": ([], ["spice_select", "spice_select.client", "spice_select.cli", "spice_select.config"]),
    "api": (["server"], ["app.main", "app.__main__", "spice_select.client"]),
    "dispatcher": (
        ["server", "worker"],
        ["workers.__main__", "workers.celery_app", "workers.celery_tasks", "workers.executors"],
    ),
}


def import_in_child(
    root: Path, extras: list[str], modules: list[str], code: str = "", given: Sequence[object] = ()
) -> subprocess.CompletedProcess[str]:
    allowed = sorted(import_names(closure(direct_requirements(*extras)))) + OURS
    return subprocess.run(
        [sys.executable, "-c", CHILD + code, json.dumps([allowed, HEAVY, modules]), *map(str, given)],
        cwd=root,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root), "HOME": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("install", INSTALLS)
def test_an_install_without_the_compute_extra_is_enough(install: str) -> None:
    extras, modules = INSTALLS[install]
    done = import_in_child(ROOT, extras, modules)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeResult:
    return make_result(tmp_path_factory.mktemp("made"), jsonl(alpaca(30)), count=5, seed=SEED)


@pytest.mark.parametrize("changed", [None, "selected.jsonl", "ranking.parquet"])
def test_the_base_install_checks_a_result_and_says_what_it_could_not(
    made: MadeResult, tmp_path: Path, changed: str | None
) -> None:
    folder = shutil.copytree(made.out, tmp_path / "copy")
    if changed is not None:
        (folder / changed).write_bytes((folder / changed).read_bytes() + b" ")
    done = import_in_child(ROOT, [], [], VERIFY, [folder, made.source])
    assert done.returncode == 0, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    held = {name for name, check in checks.items() if check["ok"] is True}
    unmade = {name for name, check in checks.items() if check["ok"] is None}
    assert unmade == {"rows", "parquet", "trace", "evidence", "source rows"}
    assert all("pip install pyarrow" in checks[name]["detail"] for name in unmade)
    assert checks.keys() - unmade - held == (set() if changed is None else {"digests", "provenance", "croissant"})
    assert {"conditions", "other files", "source"} <= held


def test_with_pyarrow_alone_every_check_of_a_result_is_made(made: MadeResult) -> None:
    code = 'allowed.append("pyarrow")\n' + VERIFY
    done = import_in_child(ROOT, [], [], code, [made.out, made.source])
    assert done.returncode == 0, done.stderr
    assert [check["ok"] for check in json.loads(done.stdout)] == [True] * 11


@pytest.mark.parametrize(
    ("install", "file", "line"),
    [
        ("client", "spice_select/__init__.py", "import torch"),
        ("api", "app/storage.py", "__import__('safetensors')"),
        ("dispatcher", "workers/celery_tasks.py", "from transformers import AutoConfig"),
    ],
)
def test_a_heavy_import_is_noticed(tmp_path: Path, install: str, file: str, line: str) -> None:
    for package in OURS:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    planted = tmp_path / file
    planted.write_text(planted.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    extras, modules = INSTALLS[install]
    done = import_in_child(tmp_path, extras, modules)
    assert done.returncode != 0
    assert f"line {planted.read_text(encoding='utf-8').count(chr(10))}" in done.stderr  # the planted line, not another
    assert "ModuleNotFoundError" in done.stderr


def test_the_api_starts_without_what_it_needs_later() -> None:
    """Reading migrations and asking other hosts are no part of starting; each costs up to a tenth of a second."""
    code = "import app.main, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    late = {"alembic", "mako", "httpcore", "torch", "numpy", "pyarrow", "datasets", "botocore", "fsspec", "jsonschema"}
    late |= {"httpx", "jinja2"}
    assert late & set(loaded.split()) == set()


@pytest.mark.parametrize("name", ["pool.jsonl", "pool.csv", "pool.parquet"])
def test_the_reader_of_files_does_without_pandas_and_numpy(name: str, tmp_path: Path) -> None:
    """Arrow would import them, for half a second of each upload, where they are installed; here they are."""
    records = [{"instruction": f"Say {number}.", "output": str(number)} for number in range(3)]
    source, out = tmp_path / name, tmp_path / "out"
    out.mkdir()
    if name.endswith("parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), source)
    elif name.endswith("csv"):
        rows = [",".join(record.values()) for record in records]
        source.write_text("\n".join(["instruction,output", *rows]) + "\n")
    else:
        source.write_text("".join(json.dumps(record) + "\n" for record in records))
    task = ChildTask(options=IntakeOptions(), limits=IntakeLimits()).model_dump_json()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "spice_select.ingest", str(source), str(out), task],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert importlib.util.find_spec("pandas") is not None
    assert importlib.util.find_spec("numpy") is not None
    assert json.loads(done.stdout.splitlines()[-1])["rows"] == 3
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pyarrow.lib" in imported
    assert not [name for name in imported if name.startswith(("pandas.", "numpy."))], "looked for and found"


def test_a_worker_that_is_ready_to_select_has_loaded_no_model_library() -> None:
    """Transformers alone was half of a child's start; whoever computes gradients loads it then."""
    code = (
        "import sys, threading\n"
        "from app.settings import Settings\n"
        "from workers.run_unit import UnitRunner\n"
        "UnitRunner(Settings(device='cpu'), 'x', threading.Event()).resources.load_selection()\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "torch" in loaded.split()
    assert {"transformers", "tokenizers", "datasets", "peft", "datasketch"} & set(loaded.split()) == set()
