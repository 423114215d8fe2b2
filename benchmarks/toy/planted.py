"""``python -m benchmarks.toy.planted``: what becomes of planted rows, method by method.

The bundled data set says of every row whether it is clean, a duplicate, a contradiction or junk; the methods do not see
that. Chosen with the untrained ``builtin:tiny`` and with a small model trained from scratch on the clean rows' text.
A tenth of 600 rows holds a handful of each kind; ``--pools 10`` chooses from ten pools of 80 % of the rows instead of
from all of them. Redundant is a chosen row of whose family (a question with its copies and its contradictions) another
is chosen as well.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import spice_select as ss
from benchmarks.machine import describe
from benchmarks.toy.material import encoded, parts
from benchmarks.toy.models import Size, make_tokenizer, pretrained
from spice_select.evaluation.training import losses_of
from spice_select.presets import PRESETS
from spice_select.records.near_duplicates import near_duplicate_clusters
from spice_select.selection.baselines import random_order

BUNDLED = Path(__file__).parents[2] / "examples" / "bundled.jsonl"
HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "planted.json", HERE / "planted.md"
REMARKS = [
    "",
    "## What follows",
    "",
    "With both proxies `spice` takes fewer duplicates than random rows. With `builtin:tiny` it takes 7 contradictions",
    "where `fisher` takes 2, with the pre-trained proxy 7 and 7. Ties within the precision of the rows decide many of",
    "these picks: the figures kept before, with 1e-6, were 5 duplicates and 3 contradictions. Over ten pools",
    "of 80 % of the rows (`--pools 10 --proxies builtin:tiny --only 'spice;fisher'`) `spice` took 8.8 % duplicates and",
    "6.9 % contradictions, `fisher` 8.8 % and 5.8 %, random rows 12.6 % and 8.1 %: fewer duplicates than random, but",
    "**not fewer contradictions than without the penalty**.",
    "",
    "Information keeps copies apart by itself: the second of two equal gradients adds little, so that a greedy choice",
    "hardly holds both, while methods that rank rows one by one (`less`, `loss`, `top_norm`) do.",
    "",
    "The penalty is no detector of contradictions: where `spice` takes no fewer of them than `fisher`, this is why. A",
    "wrong answer shares its question and most of its words with the right one, so that its gradient points along with",
    "it, not against it, and few of them point against the mean (the cosines above). A penalty of 0.1 times a conflict",
    "that is mostly zero reorders near ties only. Junk is what information looks for: it is unusual.",
]
KINDS = ("duplicate", "contradiction", "junk")
PROXIES = ("builtin:tiny", "pre-trained")
DRAWS = 1000
KEPT = 0.8
SMALL = Size(64, 3, 2, 400_000)

METHODS: dict[str, dict[str, Any]] = {
    "recommended": {**PRESETS["recommended"]["selection"], "screened": True},
    "spice": {},
    "spice, lambda 0.5": {"conflict_penalty": 0.5},
    "spice, lambda 1": {"conflict_penalty": 1.0},
    "fisher": {"method": "fisher"},
    "spice, matching 0.3": {"matching_weight": 0.3},
    "spice, matching 1": {"matching_weight": 1.0},
    "spice, matching 3": {"matching_weight": 3.0},
    "herding": {"method": "herding"},
    "facility_location": {"method": "facility_location"},
    "k_center": {"method": "k_center"},
    "dpp": {"method": "dpp"},
    "less": {"method": "less"},
    "loss": {"method": "loss"},
    "top_norm": {"method": "top_norm", "raw": True},
    "spice, raw gradients": {"raw": True},
    "diagonal, windows": {"information": "diagonal", "scope": {"kind": "windows", "size": 128}, "raw": True},
    "length_matched": {"method": "length_matched"},
    "stratified": {"method": "stratified"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fraction", type=float, default=0.1)
    parser.add_argument("--pools", type=int, default=1, help="pools of 80 %% of the rows; 1 takes all rows")
    parser.add_argument("--only", default=";".join(METHODS), help="methods, separated by ';'")
    parser.add_argument("--proxies", default=";".join(PROXIES), help="proxies, separated by ';'")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="keep the figures and write benchmarks/toy/planted.md")
    parser.add_argument("--render", action="store_true", help="only write the page again from the figures kept")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    if given.render:
        PAGE.write_text(report(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
        return
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in BUNDLED.read_text(encoding="utf-8").splitlines()]
    found: dict[str, Any] = {"machine": describe(), "seed": given.seed, "proxies": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.proxies.split(";"):
            model = name if name == "builtin:tiny" else pretrained_on_clean(rows, Path(folder), given.seed)
            found["proxies"][name] = measure(
                rows, model, given.only.split(";"), given.fraction, given.seed, pools=given.pools
            )
    text = report(found)
    print(text)
    if given.write:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(text, encoding="utf-8")
    if given.json:
        print(json.dumps(found))


def pretrained_on_clean(rows: Sequence[dict[str, Any]], folder: Path, seed: int) -> str:
    """A small model trained from scratch on the text of the clean rows; its folder."""
    documents = [part for row in rows if row["label"] == "clean" for part in parts(row)]
    documents = [documents[place] for place in random_order(len(documents), seed).tolist()]
    pretrained(documents, make_tokenizer(documents, 1024), SMALL, seed=seed, folder=folder / "small")
    return str((folder / "small").resolve())


def measure(
    rows: Sequence[dict[str, Any]], model: str, names: Sequence[str], fraction: float, seed: int, *, pools: int = 1
) -> dict[str, Any]:
    """What the named methods choose with one proxy."""
    proxy = ss.load_proxy(ss.ProxyConfig(model=model), ss.GradientConfig())
    pairs = encoded(rows, proxy.tokenizer, 512)
    examples, usable = [example for example, _ in pairs], [rows[row] for _, row in pairs]
    raw = ss.collect_gradients(proxy.model, examples, ss.GradientConfig(normalize="none"))
    unit = torch.nn.functional.normalize(raw, dim=1)
    side: dict[str, Any] = {
        "costs": [len(example.input_ids) for example in examples],
        "groups": [row["group"] for row in usable],
        "losses": losses_of(proxy.model, examples),
        # The target set of `less`: clean rows, the first of each group.
        "targets": unit[[place for place, row in enumerate(usable) if row["label"] == "clean"][:32]],
    }
    size = len(usable) if pools == 1 else round(KEPT * len(usable))
    count = round(fraction * size)
    drawn = [random_order(len(usable), seed + 1000 + pool)[:size].sort().values for pool in range(pools)]
    chosen = {name: over_pools(METHODS[name], drawn, raw, unit, side, usable, count, seed) for name in names}
    found = {
        "rows": size, "count": count, "pools": pools,
        "random": by_chance(usable, drawn, count, seed),
        "methods": chosen,
    }  # fmt: skip
    return {**found, "twins": twins(usable, unit)} if model == "builtin:tiny" else found


def over_pools(
    options: Mapping[str, Any],
    pools: Sequence[torch.Tensor],
    raw: torch.Tensor,
    unit: torch.Tensor,
    side: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    count: int,
    seed: int,
) -> dict[str, list[float]]:
    """Share of each kind in the choice of a method from each pool."""
    found: dict[str, list[float]] = {}
    for pool in pools:
        places = pool.tolist()
        gradients = (raw if options.get("raw") else unit)[pool]
        if options.get("screened"):
            words = [" ".join(parts(rows[place])) for place in places]
            first = near_duplicate_clusters(words, similarity=PRESETS["recommended"]["screens"]["near_duplicates"])
            kept = [at for at, cluster in enumerate(first) if cluster == at]
            places, gradients = [places[at] for at in kept], gradients[kept]
        settings = {key: value for key, value in options.items() if key not in {"raw", "screened"}}
        config = ss.SelectionConfig.model_validate({"budget": {"count": count}, "seed": seed, **settings})
        wanted = {key: [side[key][place] for place in places] for key in ("costs", "groups", "losses")}
        if config.scope.kind != "global":
            wanted = {}
        aimed = {"targets": side["targets"]} if config.method == "less" else {}
        here = ss.select(gradients, config, **wanted, **aimed).indices
        for kind, share in shares([rows[place] for place in places], here).items():
            found.setdefault(kind, []).append(share)
    return found


def twins(rows: Sequence[Mapping[str, Any]], unit: torch.Tensor) -> dict[str, dict[str, float]]:
    """How duplicates and contradictions stand to the clean row they were made of, and to the mean of the pool."""
    place_of = {row["id"]: place for place, row in enumerate(rows)}
    mean = torch.nn.functional.normalize(unit.mean(dim=0), dim=0)
    found = {}
    for kind in ("clean", *KINDS):
        mine = [place for place, row in enumerate(rows) if row["label"] == kind]
        with_mean = unit[mine] @ mean
        found[kind] = {"with_mean": float(with_mean.mean()), "against_mean": float((with_mean < 0).double().mean())}
        pairs = [(place, place_of[rows[place]["of"]]) for place in mine if rows[place]["of"] in place_of]
        if pairs:
            cosines = torch.stack([unit[one] @ unit[other] for one, other in pairs])
            found[kind] |= {"with_twin": float(cosines.mean()), "against_twin": float((cosines < 0).double().mean())}
    return found


def shares(rows: Sequence[Mapping[str, Any]], places: Sequence[int]) -> dict[str, float]:
    """Share of each kind among chosen rows, and of redundant ones."""
    kinds = Counter(rows[place]["label"] for place in places)
    families = Counter(rows[place]["of"] or rows[place]["id"] for place in places)
    redundant = sum(size - 1 for size in families.values())
    return {
        **{kind: kinds[kind] / len(places) for kind in ("clean", *KINDS)},
        "redundant": redundant / len(places),
    }


def by_chance(
    rows: Sequence[Mapping[str, Any]], pools: Sequence[torch.Tensor], count: int, seed: int
) -> dict[str, list[float]]:
    """Mean share of each kind in random rows, and where 95 of 100 draws lie."""
    draws = []
    for pool in pools:
        here = [rows[place] for place in pool.tolist()]
        draws += [
            shares(here, random_order(len(here), seed + draw)[:count].tolist()) for draw in range(DRAWS // len(pools))
        ]
    found = {}
    for kind in draws[0]:
        values = torch.tensor([draw[kind] for draw in draws], dtype=torch.float64)
        low, high = torch.quantile(values, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        found[kind] = [float(values.mean()), low, high]
    return found


def report(found: Mapping[str, Any]) -> str:
    """The tables as Markdown."""
    machine = found["machine"]
    lines = [
        "# What becomes of planted rows",
        "",
        "Written by `python -m benchmarks.toy.planted --write`. The bundled data set labels its rows; no method",
        "sees the labels. Shares of the chosen tenth: duplicates, contradictions, junk, and redundant rows, of whose",
        "family (a question with its copies and contradictions) another row was chosen as well."
        f" torch {machine['torch']},",
        f"seed {found['seed']}.",
    ]
    for name, here in found["proxies"].items():
        of = f"{here['count']} of {here['rows']} rows" + (f", {here['pools']} pools" if here["pools"] > 1 else "")
        lines += [
            "",
            f"## Proxy `{name}`: {of}",
            "",
            "| method | duplicates | contradictions | junk | redundant |",
            "|---|---|---|---|---|",
        ]
        shown = (*KINDS, "redundant")
        chance = [here["random"][kind] for kind in shown]
        cells = [f"{mean:.1%} ({low:.1%} to {high:.1%})" for mean, low, high in chance]
        lines.append(f"| random: mean, and where 95 of 100 draws lie | {' | '.join(cells)} |")
        for method, share in here["methods"].items():
            lines.append(f"| {method} | {' | '.join(f'{sum(share[k]) / len(share[k]):.1%}' for k in shown)} |")
        lines += ["", *_twins(here)] if "twins" in here else []
    return "\n".join([*lines, *REMARKS]) + "\n"


def _twins(here: Mapping[str, Any]) -> list[str]:
    twin, clean = here["twins"]["contradiction"], here["twins"]["clean"]
    return [
        f"A contradiction's gradient has a mean cosine of {twin['with_twin']:+.2f} with that of the row it contradicts"
        f" ({twin['against_twin']:.0%} of them below zero)",
        f"and of {twin['with_mean']:+.2f} with the mean of the pool ({twin['against_mean']:.0%} below zero; clean rows"
        f" {clean['with_mean']:+.2f}, {clean['against_mean']:.0%}).",
    ]


if __name__ == "__main__":
    main()
