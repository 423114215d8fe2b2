"""The rows of a search: its splits, the models made from its text, what is measured about its rows."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

import spice_select as ss
from benchmarks.toy.candidates import Form, forms_of
from benchmarks.toy.material import dealt, encoded, parts, read, text_of
from benchmarks.toy.models import make_tokenizer, pretrained
from benchmarks.toy.other_forms import OTHER_FORMS
from spice_select.config import digest_of
from spice_select.records.near_duplicates import near_duplicates_of
from spice_select.records.tokenize import IGNORED, Example
from spice_select.selection.baselines import random_order

STAGES = ("tune", "report")
ANSWER = "####"


@dataclass
class Side:
    """One split: rows to draw pools from, rows to judge by."""

    rows: list[dict[str, Any]]
    examples: list[Example]
    groups: list[str]
    held: list[Example]
    held_groups: list[str]
    forms: dict[Form, torch.Tensor]


def splits_of(given: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, dict[str, list[dict[str, Any]]]]]:
    """Text to pre-train on, and the rows of both stages; nothing like a held-out row is left anywhere else."""
    wanted = {
        ("tune", "held"): given.held_out,
        ("report", "held"): given.held_out,
        ("tune", "pool"): given.tune_rows,
        ("report", "pool"): given.report_rows,
        ("text", "pool"): given.text,
    }
    found: dict[tuple[str, str], list[dict[str, Any]]] = {key: [] for key in wanted}
    waiting = list(wanted)
    for together in dealt(read(given.pool), given.cluster, given.seed):
        if not waiting:
            break
        found[waiting[0]] += together
        if len(found[waiting[0]]) >= wanted[waiting[0]]:
            waiting.pop(0)
    held = [text_of(row) for stage in STAGES for row in found[stage, "held"]]
    if given.answers is not None:
        held += [text_of(row) for row in read(given.answers)]
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {stage: {} for stage in (*STAGES, "text")}
    for (stage, role), here in found.items():
        alike = set() if role == "held" else set(near_duplicates_of([text_of(row) for row in here], held))
        rows[stage][role] = [row for place, row in enumerate(here) if place not in alike]
    say({stage: {role: len(here) for role, here in parts_.items()} for stage, parts_ in rows.items()})
    return rows["text"]["pool"], rows


def models_of(given: argparse.Namespace, text: list[dict[str, Any]], cache: Path) -> dict[str, Any]:
    """Make the proxy and the model that is trained, unless the cache has them; what each cost and reached."""
    documents = [part for row in text for part in parts(row) if part]
    documents = [documents[place] for place in random_order(len(documents), given.seed).tolist()]
    made: dict[str, Any] = {}
    tokenizer = None
    for name in dict.fromkeys(("proxy", given.model)):
        path = cache / name / "made.json"
        if not path.exists():
            tokenizer = tokenizer or make_tokenizer(documents, given.vocabulary)
            facts = pretrained(documents, tokenizer, getattr(given, name), seed=given.seed, folder=cache / name)
            write(path, facts)
            say(f"{name}: {facts}")
        made[name] = json.loads(path.read_text(encoding="utf-8"))
    return made


def side_of(
    given: argparse.Namespace, rows: dict[str, list[dict[str, Any]]], proxy: Any, cache: Path, wanted: Sequence[Form]
) -> Side:
    """The rows of one split with their gradients in the forms that are wanted."""
    pool = encoded(rows["pool"], proxy.tokenizer, given.max_length)
    held = encoded(rows["held"], proxy.tokenizer, given.max_length)
    examples = [example for example, _ in pool]
    name = f"{given.stage}-{digest_of([example.input_ids for example in examples])[:12]}.pt"
    learned = [sum(label != IGNORED for label in example.labels[1:]) for example in examples]
    forms = forms_of(_kept(cache / f"gradients-{name}", partial(_plain, proxy.model, examples)), learned)
    for form in sorted(set(wanted) & set(OTHER_FORMS)):
        made = partial(OTHER_FORMS[form], cache / "proxy", examples, seed=given.seed)
        forms[form] = _kept(cache / f"{form}-{name}", made)
    return Side(
        [rows["pool"][row] for _, row in pool],
        examples,
        [str(rows["pool"][row].get(given.group, "")) for _, row in pool],
        [example for example, _ in held],
        [str(rows["held"][row].get(given.group, "")) for _, row in held],
        forms,
    )


def _plain(model: Any, examples: Sequence[Example]) -> torch.Tensor:
    return ss.collect_gradients(model, examples, ss.GradientConfig(normalize="none"))


def _kept(path: Path, made: Callable[[], torch.Tensor]) -> torch.Tensor:
    """What a file keeps, made first where there is none."""
    if not path.exists():
        began = time.process_time()
        torch.save(made(), path)
        say(f"{path.stem}: {time.process_time() - began:.0f} processor seconds")
    found: torch.Tensor = torch.load(path, weights_only=True)
    return found


def answers_of(given: argparse.Namespace, tokenizer: Any) -> list[tuple[str, Example]]:
    """Rows with a worked answer that ends in a number: the whole answer, and the number alone."""
    if given.answers is None:
        return []
    found: list[tuple[str, Example]] = []
    for example, _ in encoded(read(given.answers)[:400], tokenizer, given.max_length):
        labels = example.labels
        text = [tokenizer.decode([token]) for token in example.input_ids]
        after = ["".join(text[:place]).rstrip().endswith(ANSWER) for place in range(len(text))]
        start = next((place for place in range(len(text) - 1, 0, -1) if after[place]), None)
        if start is None or ANSWER not in "".join(text):
            continue  # cut before its answer
        number = [label if place >= start else IGNORED for place, label in enumerate(labels)]
        found += [("worked answer", example), ("final answer", Example(example.input_ids, number))]
        if len(found) >= 160:
            break
    return found


def write(path: Path, value: Any) -> None:
    """Write JSON so that a run that is cut off leaves the whole file or none."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value), encoding="utf-8")
    part.replace(path)


def say(text: Any) -> None:
    """Tell how far the search is."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)
