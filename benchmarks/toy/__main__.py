"""``python -m benchmarks.toy``: what a tenth chosen by each method is worth to a model tuned on it.

Makes a small proxy model and a larger target in code (a Qwen2 architecture trained from scratch on text at hand), lets
every method choose from the pool by the proxy's gradients, tunes the proxy and then the target on each choice for the
same steps and tokens, and compares held-out losses. The learning rate is the best of three for random rows on rows of
their own. Writes ``results.json``, ``README.md`` and a plot for each model; ``--render`` writes the last two again.
Models and trainings are kept under ``--kept``, if it is given, so that a run that is cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import astuple
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import spice_select as ss
from benchmarks.machine import describe
from benchmarks.toy.choices import choose
from benchmarks.toy.material import encoded as encoded_rows
from benchmarks.toy.material import parts, read, text_of, unlike
from benchmarks.toy.models import Size, make_tokenizer, pretrained
from benchmarks.toy.render import render
from benchmarks.toy.search_rows import answers_of, say, write
from benchmarks.toy.stages import Judges, stage_of, trained
from spice_select.config import digest_of
from spice_select.evaluation.controls import random_rows
from spice_select.evaluation.experiment import Arm, run_experiment, standard_arms
from spice_select.evaluation.hold_out import split
from spice_select.evaluation.settings import EvaluationConfig, TrainingConfig
from spice_select.evaluation.training import losses_of
from spice_select.records.tokenize import Example
from spice_select.selection.baselines import random_order

HERE = Path(__file__).parent
BUNDLED = HERE.parents[1] / "examples" / "bundled.jsonl"
RATES = (3e-4, 1e-3, 3e-3)
TRANSFERRED = (
    "spice", "spice, matching 0.3", "spice, matching 3", "herding", "diagonal, windows", "spice, periodic",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=BUNDLED, help="JSON Lines, plain or gzip")
    parser.add_argument("--group", default="group", help="column that names a row's group")
    parser.add_argument("--rows", type=int, default=4000, help="rows to choose from")
    parser.add_argument("--held-out", type=int, default=400, help="held-out rows")
    parser.add_argument("--fraction", type=float, default=0.1)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--proxy", type=_size, default="96,3,3,300000", help="hidden,layers,heads,tokens of text")
    parser.add_argument("--target", type=_size, default="160,5,5,500000")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--answers", type=Path, default=None, help="rows whose final answers are also judged (gsm8k)")
    parser.add_argument("--kept", type=Path, default=None, help="folder that keeps the models and every training")
    parser.add_argument("--out", type=Path, default=None, help="folder for the report; none by default")
    parser.add_argument("--render", action="store_true", help="only write the report of an earlier results.json again")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    if given.render:
        render(json.loads((given.out / "results.json").read_text(encoding="utf-8")), given.out)
        return
    found = measure(given)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        render(found, given.out)
    for stage in found["stages"]:
        print(f"{stage['model']}: start {stage['base']:.4f}, power {stage['power']}")
        for arm in stage["arms"]:
            shown = (
                "" if arm["advantage"] is None else "{mean:+.4f} ({low:+.4f} to {high:+.4f})".format(**arm["advantage"])
            )
            print(f"  {arm['name']:24} {arm['loss']:.4f}  {shown}")
    if given.json:
        print(json.dumps(found))


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Everything, from the file to the figures."""
    began = time.monotonic()
    rows = read(given.pool)
    order = random_order(len(rows), given.seed).tolist()
    aside = given.held_out + given.held_out // 2 + 64
    asked = [] if given.answers is None else [text_of(row) for row in read(given.answers)]
    here = unlike([rows[row] for row in order[: given.rows + aside]], asked)
    rest = [rows[row] for row in order[given.rows + aside :]]
    texts, groups = [text_of(row) for row in here], [str(row.get(given.group, "")) for row in here]
    first = split(texts, count=given.held_out, groups=groups, seed=given.seed)
    held = [here[row] for row in first.held_out]
    left = [here[row] for row in first.pool]
    second = split([text_of(row) for row in left], count=given.held_out // 2 + 64, seed=given.seed)
    beside = [left[row] for row in second.held_out]
    targets, tried = beside[:64], beside[64:]
    pool = [left[row] for row in second.pool][: given.rows]
    source = rest if len(rest) >= len(pool) else pool
    text = unlike(source, [*asked, *(text_of(row) for row in held)])
    say(
        f"{len(pool)} rows to choose from, {len(held)} held out, {len(text)} rows of text, "
        f"{len(source) - len(text)} near-duplicates left out"
    )
    documents = [part for row in text for part in parts(row) if part]
    documents = [documents[place] for place in random_order(len(documents), given.seed).tolist()]
    tokenizer = make_tokenizer(documents, given.vocabulary)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.kept or Path(temporary)
        made, folders = {}, {}
        for name in ("proxy", "target"):
            key = digest_of([documents, given.vocabulary, astuple(getattr(given, name)), given.seed])[:12]
            folders[name] = folder / f"{name}-{key}"
            facts = folder / f"{name}-{key}.json"
            if not facts.exists():
                size = getattr(given, name)
                write(facts, pretrained(documents, tokenizer, size, seed=given.seed, folder=folders[name]))
            made[name] = json.loads(facts.read_text(encoding="utf-8"))
            say(f"{name}: {made[name]}")
        models = {
            name: ss.load_proxy(ss.ProxyConfig(model=str(here.resolve())), ss.GradientConfig()).model
            for name, here in folders.items()
        }
        answers = answers_of(given, tokenizer)
        encoded = {
            name: encoded_rows(part, tokenizer, given.max_length)
            for name, part in {"pool": pool, "held": held, "tried": tried, "targets": targets}.items()
        }
        examples = [example for example, _ in encoded["pool"]]
        names = [pool[row].get(given.group, "") for _, row in encoded["pool"]]
        kept = [example for example, _ in encoded["held"]]
        kept_groups = [str(held[row].get(given.group, "")) for _, row in encoded["held"]]
        count = max(1, int(given.fraction * len(examples) + 0.5))
        tokens = [len(example.input_ids) for example in examples]
        wanted = [example for example, _ in encoded["targets"]]
        choices, gradient_seconds = choose(models["proxy"], folders["proxy"], examples, wanted, count)
        say(f"chosen: { {name: (len(c.rows), round(c.seconds, 1)) for name, c in choices.items()} }")
        stages = []
        for stage in ("proxy", "target"):
            trial = [example for example, _ in encoded["tried"]]
            rate, rates = _rate(models[stage], examples, trial, count, given)
            config = EvaluationConfig(training=_training(given, rate), seeds=given.seeds, seed=given.seed)
            arms = standard_arms(
                "spice", choices["spice"].rows, tokens=tokens, groups=[str(name) for name in names], config=config
            )
            arms += [
                Arm(name, "choice", lambda _seed, rows=choice.rows: rows)
                for name, choice in choices.items()
                if name != "spice" and (stage == "proxy" or name in TRANSFERRED)
            ]
            judges = Judges(kept, kept_groups, answers)
            experiment = trained(models[stage], examples, judges, arms, config, count, folders[stage] / "trainings")
            stages.append(stage_of(stage, experiment, judges, made[stage], rate, rates, config.confidence))
    shares = {
        name: {
            "tokens": sum(tokens[row] for row in choice.rows),
            "rows": len(choice.rows),
            "seconds": round(choice.seconds, 2),
            "groups": {g: sum(str(names[row]) == g for row in choice.rows) for g in sorted({str(n) for n in names})},
        }
        for name, choice in choices.items()
    }
    return {
        "machine": describe(),
        "date": datetime.now(UTC).date().isoformat(),
        "pool": {
            "rows": len(examples), "tokens": sum(tokens), "held_out": len(kept), "chosen": count,
            "groups": {g: sum(str(n) == g for n in names) for g in sorted({str(n) for n in names})},
        },
        "settings": {
            "epochs": given.epochs, "seeds": given.seeds, "seed": given.seed, "max_length": given.max_length,
            "vocabulary": given.vocabulary, "fraction": given.fraction, "batch_rows": 8, "match": "tokens",
            "command": command_of(given),
        },
        "gradient_seconds": round(gradient_seconds, 1),
        "choices": shares,
        "stages": stages,
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def _rate(
    model: Any, pool: list[Example], tried: list[Example], count: int, given: argparse.Namespace
) -> tuple[float, dict[str, float]]:
    """The learning rate that serves random rows best, on rows that nothing else looks at."""
    losses = {}
    for rate in RATES:
        arm = Arm("random", "control", lambda seed: random_rows(len(pool), count, seed))
        config = EvaluationConfig(training=_training(given, rate), seeds=2, seed=given.seed + 1000)
        losses[rate] = float(run_experiment(model, pool, tried, [arm], config, count=count).arms[0].losses.mean())
    start = float(losses_of(model, tried).mean())
    say(f"learning rates: start {start:.4f}, {losses}")
    best = min(losses, key=lambda rate: losses[rate])
    return best, {"start": start, **{str(rate): loss for rate, loss in losses.items()}}


def _training(given: argparse.Namespace, rate: float) -> TrainingConfig:
    return TrainingConfig(epochs=given.epochs, batch_rows=8, learning_rate=rate, micro_tokens=2048)


def _size(text: str) -> Size:
    return Size(*(int(part) for part in text.split(",")))


def command_of(given: argparse.Namespace) -> str:
    """The command, with files by the role they play."""
    sizes = {name: ",".join(str(part) for part in astuple(getattr(given, name))) for name in ("proxy", "target")}
    numbers = {
        name.replace("_", "-"): f"{getattr(given, name):g}"
        for name in ("rows", "held_out", "fraction", "max_length", "vocabulary", "epochs", "seeds", "seed")
    }
    options = {"pool": "POOL", "group": given.group, **numbers, **sizes}
    if given.answers is not None:
        options["answers"] = "ANSWERS"
    return "python -m benchmarks.toy " + " ".join(f"--{name} {value}" for name, value in options.items())


if __name__ == "__main__":
    main()
