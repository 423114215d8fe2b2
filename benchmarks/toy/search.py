"""``python -m benchmarks.toy.search``: which settings train better than random rows?

Settings are compared on one split (``--stage tune``) and the leading ones on another (``--stage report``) whose rows,
pools and held-out rows share nothing with the first. A replicate draws a pool of its own from the rows of its split,
lets every setting choose a tenth of it, draws random rows of the same number twice, and trains on each from the same
start for the same steps and tokens. Differences are paired by replicate and held-out row, so that an interval holds for
other pools, other draws and other orders. Every training is kept under ``--cache``; a run that is cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import spice_select as ss
from benchmarks.machine import describe
from benchmarks.toy.candidates import TRIED, rows_of
from benchmarks.toy.loops import LOOPS, loop_rows
from benchmarks.toy.models import Size
from benchmarks.toy.search_page import page
from benchmarks.toy.search_rows import STAGES, Side, answers_of, models_of, say, side_of, splits_of, write
from benchmarks.toy.search_table import DRAWS, arms_of, by_label
from spice_select.evaluation.controls import one_group_rows, stratified_rows
from spice_select.evaluation.experiment import Arm, run_training
from spice_select.evaluation.settings import EvaluationConfig, TrainingConfig
from spice_select.evaluation.training import losses_of, schedule_of
from spice_select.selection.baselines import random_order

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "search.json", HERE / "settings.md"
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
PLANTED = ("junk", "one_group")
PLANTED_REPLICATES = 3


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command was given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="only write the page again from search.json")
    parser.add_argument("--pool", type=Path, help="JSON Lines, plain or gzip")
    parser.add_argument("--group", default="domain", help="column that names a row's group")
    parser.add_argument("--cluster", default=None, help="column whose equal rows stay in one split, such as the prompt")
    parser.add_argument("--stage", choices=STAGES, default="tune")
    parser.add_argument("--model", choices=("proxy", "target"), default="proxy", help="which model is trained")
    parser.add_argument("--settings", default=None, help="names of settings, separated by ';'; all by default")
    parser.add_argument("--replicates", type=int, default=4)
    parser.add_argument("--first", type=int, default=0, help="replicate to begin with, to leave out those looked at")
    parser.add_argument("--controls", default="", help="also full, stratified, junk, one_group, separated by ';'")
    parser.add_argument("--text", type=int, default=6000, help="rows of text to pre-train on")
    parser.add_argument("--rows", type=int, default=2000, help="rows in a pool; a split holds more")
    parser.add_argument("--tune-rows", type=int, default=2600)
    parser.add_argument("--report-rows", type=int, default=4800)
    parser.add_argument("--held-out", type=int, default=300)
    parser.add_argument("--fraction", type=float, default=0.1)
    parser.add_argument("--max-length", type=int, default=192)
    parser.add_argument("--vocabulary", type=int, default=1024)
    parser.add_argument("--proxy", type=_size, default="64,3,2,1000000", help="hidden,layers,heads,tokens of text")
    parser.add_argument("--target", type=_size, default="112,4,4,1500000")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--answers", type=Path, default=None, help="rows whose final answers are also judged (gsm8k)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder that keeps models, gradients and trainings")
    parser.add_argument("--only-summarise", action="store_true", help="use what the cache holds, train nothing")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    found = parser.parse_args(given)
    if not found.render and (found.pool is None or found.cache is None):
        parser.error("--pool and --cache are needed")
    return found


def main() -> None:
    given = arguments()
    if given.render:
        PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
        return
    torch.set_num_threads(1)
    found = measure(given)
    for arm in found["arms"]:
        gain = arm["advantage"]
        shown = "" if gain is None else "{mean:+.4f} ({low:+.4f} to {high:+.4f})".format(**gain)
        print(f"  {arm['name']:28} {arm['replicates']:3} {arm['loss']:.4f}  {shown}")
    if given.json:
        print(json.dumps(found))


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """One stage, from the file to the figures."""
    cache: Path = given.cache
    cache.mkdir(parents=True, exist_ok=True)
    text, rows = splits_of(given)
    made = models_of(given, text, cache)
    models = {
        name: ss.load_proxy(ss.ProxyConfig(model=str((cache / name).resolve())), ss.GradientConfig())
        for name in ("proxy", given.model)
    }
    names = given.settings.split(";") if given.settings else [*TRIED, *LOOPS]
    forms = [TRIED[name][0] for name in names if name in TRIED]
    side = side_of(given, rows[given.stage], models["proxy"], cache, forms)
    trained = models[given.model]
    answers = answers_of(given, trained.tokenizer)
    rate = _rate(given, side, trained.model, cache)
    config = EvaluationConfig(training=_training(given, rate), seed=given.seed)
    tokens = [len(example.input_ids) for example in side.examples]
    count = round(given.fraction * given.rows)
    schedule = schedule_of(config.training, count=count, mean_tokens=sum(tokens) / len(tokens))
    judges = [*side.held, *(example for _, example in answers)]
    arms = [*(f"random {draw}" for draw in range(DRAWS)), *given.controls.split(";"), *names]
    folder = cache / f"{given.stage}-{given.model}"
    folder.mkdir(exist_ok=True)
    losses: dict[str, list[list[float]]] = {}
    chosen_tokens: dict[str, list[int]] = {}
    seconds = 0.0
    for turn in range(given.first, given.replicates):
        for name in filter(None, arms):
            if name in PLANTED and turn >= PLANTED_REPLICATES:
                continue
            path = folder / f"{name.replace(' ', '_').replace(',', '')}-{turn}.json"
            if not path.exists() and not given.only_summarise:
                arm = Arm(name, "choice", _choice(given, side, name, count, turn), nonsense=name == "junk")
                began = time.monotonic()
                done = run_training(trained.model, side.examples, judges, arm, config, schedule, turn=turn)
                kept = {
                    "losses": [round(float(value), 6) for value in done.losses],
                    "rows": done.rows, "tokens": done.tokens, "spent": asdict(done.spent),
                    "seconds": round(time.monotonic() - began, 2),
                }  # fmt: skip
                write(path, kept)
                say(f"{given.stage} {given.model} {turn} {name}: {done.losses[: len(side.held)].mean():.4f}")
            if path.exists():
                kept = json.loads(path.read_text(encoding="utf-8"))
                losses.setdefault(name, []).append(kept["losses"])
                chosen_tokens.setdefault(name, []).append(kept["tokens"])
                seconds += kept["seconds"]
    base = losses_of(trained.model, judges)
    own = len(side.held)
    return {
        "machine": describe(),
        "date": datetime.now(UTC).date().isoformat(),
        "stage": given.stage,
        "model": given.model,
        "made": made[given.model],
        "made_proxy": made["proxy"],
        "pool": {
            "rows": given.rows, "drawn_from": len(side.examples), "mean_tokens": round(sum(tokens) / len(tokens), 1),
            "chosen": count, "held_out": own, "groups": {g: side.groups.count(g) for g in sorted(set(side.groups))},
        },
        "settings": {
            "epochs": given.epochs, "learning_rate": rate, "draws": DRAWS, "seed": given.seed,
            "max_length": given.max_length, "vocabulary": given.vocabulary, "steps": schedule.steps, "match": "tokens",
        },
        "base": float(base[:own].mean()),
        "base_answers": {label: float(base[own:][places].mean()) for label, places in by_label(answers).items()},
        "arms": arms_of(losses, chosen_tokens, base, own, side, answers, len(names)),
        "training_seconds": round(seconds, 1),
    }  # fmt: skip


def _choice(given: argparse.Namespace, side: Side, name: str, count: int, turn: int) -> Callable[[int], Sequence[int]]:
    """Rows of an arm in a replicate, from the pool of that replicate."""

    def rows(_seed: int) -> Sequence[int]:
        pool = random_order(len(side.examples), given.seed + 7919 * (turn + 1))[: given.rows].sort().values
        groups = [side.groups[row] for row in pool.tolist()]
        seed = given.seed + 104_729 * (turn + 1)
        if name == "full":
            places: Sequence[int] = range(len(pool))
        elif name.startswith("random ") or name == "junk":
            draw = int(name.split()[1]) if name != "junk" else 0
            places = random_order(len(pool), seed + draw)[:count].tolist()
        elif name == "stratified":
            places = stratified_rows(groups, count, seed)
        elif name == "one_group":
            places = one_group_rows(groups, count, seed) or []
        elif name in LOOPS:
            places = loop_rows(name, given.cache / "proxy", [side.examples[row] for row in pool.tolist()], count)
        else:
            costs = [len(side.examples[row].input_ids) for row in pool.tolist()]
            places = rows_of(name, {form: values[pool] for form, values in side.forms.items()}, costs, groups, count)
        return [int(pool[place]) for place in places]

    return rows


def _rate(given: argparse.Namespace, side: Side, model: Any, cache: Path) -> float:
    """The learning rate that serves random rows best, found once, on the tuning split."""
    path = cache / f"rate-{given.model}.json"
    if not path.exists():
        if given.stage != "tune":
            raise SystemExit("run the stage tune first: it finds the learning rate")
        tried = {}
        tokens = [len(example.input_ids) for example in side.examples]
        count = round(given.fraction * given.rows)
        for rate in RATES:
            config = EvaluationConfig(training=_training(given, rate), seed=given.seed)
            schedule = schedule_of(config.training, count=count, mean_tokens=sum(tokens) / len(tokens))
            # Another draw than any replicate's.
            arm = Arm("random", "control", lambda _: random_order(len(side.examples), given.seed + 17)[:count].tolist())
            done = run_training(model, side.examples, side.held, arm, config, schedule, turn=0)
            tried[str(rate)] = float(done.losses.mean())
        write(path, tried)
        say(f"learning rates: {tried}")
    tried = json.loads(path.read_text(encoding="utf-8"))
    return float(min(tried, key=lambda rate: tried[rate]))


def _training(given: argparse.Namespace, rate: float) -> TrainingConfig:
    return TrainingConfig(epochs=given.epochs, batch_rows=8, learning_rate=rate, micro_tokens=2048)


def _size(text: str) -> Size:
    return Size(*(int(part) for part in text.split(",")))


if __name__ == "__main__":
    main()
