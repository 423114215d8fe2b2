"""The benchmarks of the one table: how each is run, which code it measures, what it is compared with, its figures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATA, MODEL = "{SPICE_EVIDENCE_DATA}", "{SPICE_EVIDENCE_MODEL}"
"""Stand for a folder of instruction data and one of a model; what needs one is left out where it is not set."""
LIBRARY = ("spice_select/selection/**/*.py", "spice_select/arrays.py")
GRADIENTS = ("spice_select/gradients/**/*.py", "spice_select/models/**/*.py")


@dataclass(frozen=True)
class Figure:
    """One number of the table.

    Attributes:
        what: What it is, with its unit.
        path: Keys that lead to it in the line of JSON; of a list, ``key=value`` finds an entry.
        goal: What it is to reach; empty where nothing was set.
    """

    what: str
    path: tuple[str, ...]
    goal: str = ""

    def value(self, found: Any) -> Any:
        """The number in a line of JSON, or None where it was not measured.

        Args:
            found: What the benchmark printed.
        """
        for key in self.path:
            if isinstance(found, list):
                name, _, wanted = key.partition("=")
                found = next((entry for entry in found if str(entry.get(name)) == wanted), None)
            elif isinstance(found, dict):
                found = found.get(key)
            else:
                return None
        return found


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        module: What ``python -m`` runs.
        arguments: Its arguments; ``--json`` is added.
        measures: Patterns of the files whose code it measures; the module itself counts always.
        peers: What it is compared with, with version and settings.
        figures: What the table shows.
    """

    module: str
    arguments: tuple[str, ...]
    measures: tuple[str, ...]
    peers: str
    figures: tuple[Figure, ...]

    def digest(self, root: Path = ROOT) -> str:
        """Sha256 (hex, shortened) of the code that is measured, of the benchmark and of its arguments.

        Args:
            root: Folder of the repository.
        """
        module = root / self.module.replace(".", "/")
        own = module / "__main__.py" if module.is_dir() else module.with_suffix(".py")
        total = hashlib.sha256(" ".join(self.arguments).encode())
        for path in [own, *self._measured(root)]:
            total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
        return total.hexdigest()[:12]

    def _measured(self, root: Path) -> Iterator[Path]:
        for pattern in self.measures:
            found = sorted(root.glob(pattern))
            if not found:
                raise ValueError(f"{self.module} measures {pattern}, which is no file of the project")
            yield from found


def _times(name: str) -> tuple[str, str, str]:
    return "targeted", name, "times_untargeted"


PICKED_FROM = ("--ways", "batch-256", "batch-2048", "threads-2", "bfloat16")
BENCHMARKS: dict[str, Benchmark] = {
    "worker_start": Benchmark(
        "benchmarks.worker_start",
        (),
        ("workers/**/*.py", "spice_select/models/*.py"),
        "none",
        (
            Figure("processor seconds until a worker can select", ("ready_s",), "<= 3.5"),
            Figure("until its first model is loaded, further seconds", ("models_s",)),
        ),
    ),
    "trace_files": Benchmark(
        "benchmarks.trace_files",
        (),
        ("app/**/*.py", "workers/**/*.py", "spice_select/**/*.py"),
        "none",
        (
            Figure("files that POST /v1/jobs runs through", ("files", "POST /v1/jobs"), "<= 20"),
            Figure("files that a job runs through", ("files", "a job from POST to its files"), "<= 60"),
        ),
    ),
    "targeted": Benchmark(
        "benchmarks.targeted",
        (),
        LIBRARY,
        "the untargeted lazy selection of the same pool, 4,000 rows, 400 picks, d = 13,440",
        (
            Figure("relevance, times the untargeted selection", _times("relevance (B)"), "<= 1.2"),
            Figure("matching, times the untargeted selection", _times("matching (A)"), "<= 3"),
            Figure("relevance in the span, times", _times("relevance, span"), "<= 0.2"),
            Figure("matching in the span, times", _times("matching, span"), "<= 0.2"),
        ),
    ),
    "selection": Benchmark(
        "benchmarks.selection",
        ("--rows", "windows,dense", "--threads", "1"),
        LIBRARY,
        "the authors' windows of 128 and a dense greedy, both written anew in benchmarks/rivals.py from their code",
        (
            Figure("dense greedy / ours, processor time", ("rows", "row=dense", "processor_ratio"), ">= 10"),
            Figure("authors' windows / ours, processor time", ("rows", "row=windows", "processor_ratio")),
        ),
    ),
    "gradients": Benchmark(
        "benchmarks.gradients",
        ("--rows", "16", "--rounds", "3", "--memory-rows"),
        GRADIENTS,
        "the same model and batches by the same torch: plain training step, torch.func.vmap(grad), LoRA r 16 one "
        "sample at a time as in the authors' code; bergson 2.5.1 only on a GPU",
        (
            Figure("ours / plain training step, time", ("contenders", "plain", "ours_to_this"), "<= 0.80"),
            Figure("ours / one at a time, LoRA, time", ("contenders", "one-at-a-time", "ours_to_this"), "<= 0.5"),
            Figure("ours / vmap, time", ("contenders", "vmap", "ours_to_this"), "<= 0.33"),
            Figure("peak of ours beyond the model, MiB", ("contenders", "ours", "peak_mib")),
            Figure("peak of a plain step beyond the model, MiB", ("contenders", "plain", "peak_mib")),
        ),
    ),
    "scale": Benchmark(
        "benchmarks.scale",
        ("--sizes", "10000", "--scopes", "windows"),
        LIBRARY,
        "none; the certificate bounds the utility",
        (
            Figure(
                "rows a processor second, windows of 2,500, 10,000 rows",
                ("rows", "n=10000", "rows_per_processor_second"),
            ),
            Figure("most memory, MiB", ("rows", "n=10000", "peak_mib")),
        ),
    ),
    "cost": Benchmark("benchmarks.cost", ("--rows", "300"), (*LIBRARY, *GRADIENTS), "training on everything", ()),
    "picks": Benchmark(
        "benchmarks.picks",
        ("--data", DATA, "--model", MODEL, "--rows", "300", *PICKED_FROM),
        (*LIBRARY, *GRADIENTS),
        "the same selection from gradients in float32, 512 tokens a batch, one thread",
        tuple(
            Figure(f"least share of picks kept, {what}", ("kept", key), goal)
            for key, what, goal in (
                ("float32", "other batches and threads", ">= 0.99"),
                ("bfloat16", "bfloat16, for targets", ">= 0.90"),
            )
        ),
    ),
    "contamination": Benchmark(
        "benchmarks.contamination",
        (f"{DATA}/code_alpaca.jsonl.gz",),
        ("spice_select/records/*.py",),
        "none",
        (
            Figure("found with one word in ten replaced", ("contamination", "words_changed"), ">= 0.90"),
            Figure("false alarms", ("contamination", "false_alarms"), "<= 0.005"),
        ),
    ),
    "service": Benchmark(
        "benchmarks.service",
        ("--rounds", "3", "--seconds", "4"),
        ("app/**/*.py",),
        "a constant JSON route on the same uvicorn; 100,000 jobs in PostgreSQL with fsync",
        (
            Figure("POST /v1/jobs a second, one process", ("rows", "POST /v1/jobs", "per_second"), ">= 100"),
            Figure("the same, two processes", ("rows", "POST, two processes", "per_second")),
        ),
    ),
}
"""By name, in the order of the table."""
