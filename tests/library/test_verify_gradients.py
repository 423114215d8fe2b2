"""With the gradients at hand a result cannot claim other rows, order or numbers than its settings give."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spice_select.config import Budget, RunConfig
from spice_select.pipeline.run import run
from spice_select.pipeline.targets import TargetFile
from spice_select.pipeline.verify_selection import RECOMPUTED, Beside, verify_selection
from spice_select.results.signature import UNSIGNED
from spice_select.results.verify import verify_folder
from spice_select.storage.shards import read_shard
from tests.fixtures.commands import Command, commands
from tests.fixtures.forgeries import edit_statement, make_evidence_follow, numbers_changed, reversed_ranking
from tests.fixtures.results import alpaca, jsonl, seal
from tests.reference.selection import utility

ALPHA = 2.0
SELECTION: dict[str, dict[str, Any]] = {
    "the default": {},
    "random rows": {"method": "random"},
    "the diagonal form": {"information": "diagonal"},
    "the scalar form": {"information": "scalar"},
    "a token budget": {"budget": Budget(tokens=900)},
    "windows": {"scope": {"kind": "windows", "size": 10}},
    "parts": {"scope": {"kind": "partitioned", "parts": 3}},
    "no penalty": {"conflict_penalty": 0.0},
}


class Made:
    """Results on one pool, and where its gradients are."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache, self.source = folder, folder / "cache", folder / "pool.jsonl"
        self.source.write_bytes(jsonl(alpaca(40)))
        self.target = folder / "target.jsonl"
        self.target.write_bytes(jsonl(alpaca(60)[50:]))

    def select(self, name: str, *, gradients: dict[str, Any] | None = None, **selection: Any) -> Path:
        out = self.folder / name
        if not out.exists():
            settings = {"budget": Budget(count=9), "alpha": ALPHA, "seed": 5, **selection}
            measured = {"sketch_dim": 8, **(gradients or {})}
            config = RunConfig.model_validate({"selection": settings, "gradients": measured, "preset": None})
            run(self.source, config, out, cache=self.cache)
        return out

    def shard(self) -> Path:
        return max(self.cache.glob("gradients/*"), key=lambda path: path.stat().st_size)

    def failed(self, folder: Path, beside: Beside | None = None) -> dict[str, str]:
        checks = verify_selection(folder, self.source, self.cache, beside)
        return {check.name: check.detail for check in checks if not check.ok}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made"))


@pytest.mark.parametrize("name", SELECTION)
def test_what_was_selected_holds(made: Made, name: str) -> None:
    assert made.failed(made.select(name, **SELECTION[name])) == {}


def test_the_utility_is_the_log_determinant_of_the_slow_twin(made: Made) -> None:
    folder = made.select("the default")
    features = read_shard(made.shard()).features.astype(np.float64)
    rows = pq.read_table(folder / "ranking.parquet").column("source_row").to_pylist()
    said = next(check.detail for check in verify_selection(folder, made.source, made.cache) if check.name == "numbers")
    assert said.endswith(f"utility {utility(features[rows], ALPHA):.6f} nats")


def right_numbers_in_reversed_order(folder: Path, made: Made) -> None:
    """Not only the digests fit, the gains do as well: nothing but the rule tells that the order is another."""
    reversed_ranking(folder)
    features = read_shard(made.shard()).features.astype(np.float64)
    table = pq.read_table(folder / "ranking.parquet")
    rows = table.column("source_row").to_pylist()
    sizes = [utility(features[rows[:count]], ALPHA) for count in range(len(rows) + 1)]
    gains = np.diff(sizes).tolist()
    means = [
        features[rows[:count]].mean(axis=0) if count else np.zeros(features.shape[1]) for count in range(len(rows))
    ]
    conflicts = [
        max(0.0, -float(features[row] @ mean) / float(np.linalg.norm(features[row]) * np.linalg.norm(mean) + 1e-8))
        for row, mean in zip(rows, means, strict=True)
    ]
    bases = table.column("base_gain").to_pylist()
    epsilons = [gain - base for gain, base in zip(gains, bases, strict=True)]
    for column, values in (("gain", gains), ("conflict", conflicts), ("epsilon", epsilons)):
        place = table.schema.names.index(column)
        table = table.set_column(place, table.schema.field(place), pa.array(values))
    pq.write_table(table, folder / "ranking.parquet")
    trace = pq.read_table(folder / "trace.parquet")
    running = pa.array([sum(gains[: rank + 1]) for rank in range(len(gains))])
    pq.write_table(trace.set_column(1, trace.schema.field(1), running), folder / "trace.parquet")
    make_evidence_follow(folder)


def another_method(folder: Path, made: Made) -> None:
    """The rows of another rule under the name of this one."""
    shutil.rmtree(folder)
    shutil.copytree(made.select("random rows", **SELECTION["random rows"]), folder)
    edit_statement(
        lambda said: said["buildDefinition"]["externalParameters"]["config"]["selection"].update(method="spice")
    )(folder)


def alone(forge: Callable[[Path], None]) -> Callable[[Path, Made], None]:
    return lambda folder, _: forge(folder)


def build(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path, Made], None]:
    return alone(edit_statement(lambda said: change(said["buildDefinition"])))


FORGED: dict[str, tuple[Callable[[Path, Made], None], str, str]] = {
    "gains a hundredfold": (alone(numbers_changed(lambda all: [100 * one for one in all])), "numbers", "9 of 9 picks"),
    "one gain a little larger": (
        alone(numbers_changed(lambda all: [*all[:4], all[4] * 1.0001, *all[5:]])), "numbers", "first rank 5: gain"
    ),
    "ranking reversed": (alone(reversed_ranking), "numbers", "have other numbers"),
    "ranking reversed with the right gains": (right_numbers_in_reversed_order, "selection", "from rank 1 on"),
    "the rows of another method": (another_method, "selection", "are not among theirs"),
    "another alpha": (
        build(lambda said: said["externalParameters"]["config"]["selection"].update(alpha=1.0)), "numbers", "gain"
    ),
    "another budget": (
        build(lambda said: said["externalParameters"]["config"]["selection"]["budget"].update(count=12)),
        "selection",
        "the settings select 12 rows, the result has 9",
    ),
    "another model": (
        build(lambda said: said["resolvedDependencies"][1]["annotations"].update(revision="f" * 40)),
        "gradients",
        "the result states",
    ),
    "a statement of another kind": (build(lambda said: said.update(externalParameters=[])), "gradients", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_result_is_caught_although_every_digest_fits(made: Made, tmp_path: Path, name: str) -> None:
    forge, check, words = FORGED[name]
    folder = Path(shutil.copytree(made.select("the default"), tmp_path / "copy"))
    forge(folder, made)
    seal(folder)
    if name != "a statement of another kind":
        assert verify_folder(folder, made.source).ok, "without the gradients nothing tells"
    failed = made.failed(folder)
    assert check in failed, failed
    assert words in failed[check]


def test_a_target_has_to_be_given_and_be_the_right_one(made: Made) -> None:
    out = made.folder / "targeted"
    selection = {"budget": {"count": 6}, "whitening_damping": 0.1}
    config = RunConfig.model_validate({"selection": selection, "gradients": {"sketch_dim": 8}, "preset": None})
    run(made.source, config, out, cache=made.cache, targets=[TargetFile("sums", made.target)])
    assert made.failed(out, Beside(targets=[("sums", made.target)])) == {}
    assert made.failed(out) == {
        "gradients": "the result was selected with --target sums=FILE: give these, in this order"
    }
    assert made.failed(out, Beside(targets=[("sums", made.source)])).keys() == {"numbers", "selection"}


def test_what_was_owned_before_counts_from_the_first_pick(made: Made) -> None:
    base, out = made.select("the default"), made.folder / "more"
    config = RunConfig.model_validate(
        {"selection": {"budget": {"count": 5}, "alpha": ALPHA}, "gradients": {"sketch_dim": 8}, "preset": None}
    )
    run(made.source, config, out, cache=made.cache, given=base)
    assert made.failed(out, Beside(bases=[base])) == {}
    assert "--given" in made.failed(out)["gradients"]
    other = Beside(bases=[made.select("random rows", **SELECTION["random rows"])])
    assert "not a result that this one adds to" in made.failed(out, other)["selection"]


def test_gradients_that_are_rotten_or_not_there_prove_nothing(made: Made, tmp_path: Path) -> None:
    folder, elsewhere = made.select("the default"), tmp_path / "loose"
    elsewhere.mkdir()
    assert "does not hold the gradients" in verify_selection(folder, made.source, elsewhere)[0].detail
    shard = made.shard()
    loose = elsewhere / "deep" / "renamed"
    loose.parent.mkdir()
    (elsewhere / "text").write_text("no shard")
    shutil.copy(shard, loose)
    assert all(check.ok for check in verify_selection(folder, made.source, elsewhere)), "found by what it says"
    assert all(check.ok for check in verify_selection(folder, made.source, loose)), "or named itself"
    rotten = bytearray(loose.read_bytes())
    rotten[-1] ^= 1
    loose.write_bytes(rotten)
    assert {check.name for check in verify_selection(folder, made.source, elsewhere) if not check.ok} == {
        "numbers", "selection",
    }  # fmt: skip


@pytest.fixture
def spice(capsys: pytest.CaptureFixture[str]) -> Command:
    return commands(capsys)


def test_the_command_says_what_was_proven(made: Made, spice: Command, tmp_path: Path) -> None:
    folder = made.select("the default")
    arguments = ("--json", "--source", made.source)
    assert spice("verify", folder, *arguments).json()["notice"] == UNSIGNED
    whole = spice("verify", folder, *arguments, "--gradients", made.cache).json()
    assert (whole["ok"], whole["notice"]) == (True, RECOMPUTED)
    assert [check["name"] for check in whole["checks"]][-3:] == ["gradients", "numbers", "selection"]
    forged = Path(shutil.copytree(folder, tmp_path / "copy"))
    reversed_ranking(forged)
    seal(forged)
    said = spice("verify", forged, *arguments, "--gradients", made.cache)
    assert (said.status, said.json()["notice"]) == (1, UNSIGNED)
    assert spice("verify", folder, "--gradients", made.cache).status == 2
    assert spice("verify", folder, "--target", f"t={made.target}").status == 2
