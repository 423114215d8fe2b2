"""The claims of the paper as a page, from the figures that were kept."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

from benchmarks.toy.render import shell

LIMITS = [
    "",
    "## Limits",
    "",
    "The models saw little text before their gradients were taken, and those of one architecture differ more from",
    "each other than models trained to the end would. A conflict needs a gradient that points against the mean of the",
    "picks: with gradients of such models most rows have none, and a rank correlation over so many zeros says little.",
]


def page(found: dict[str, Any], real: dict[str, Any]) -> str:
    """The claims as Markdown.

    Args:
        found: Figures of the models made in code.
        real: Figures of SmolLM2-135M.
    """
    pool, machine, own = found["pool"], found["machine"], real["pool"]
    models = "; ".join(f"{name} {made['parameters']:,}" for name, made in found["models"].items())
    trained = found["models"]["qwen2"]["tokens"]
    lines = [
        "# The paper's claims, checked",
        "",
        "Each verdict follows from the numbers by the rule beside it. It says something about this pool and model, not",
        "about 7B models. First a real language model, then models of under a million weights made in code.",
        "",
        "## On SmolLM2-135M",
        "",
        "```sh",
        *shell(real["command"]),
        "```",
        "",
        f"Pool: {own['rows']:,} rows, draw {own['draw']} of the dirty pool of [the protocol](evaluation-protocol.md),",
        f"scale `{real['scale']}`; gradients of {own['dimension']:,} numbers, {own['chosen']:,} selected. One pool.",
        f"torch {real['machine']['torch']}, {real['date']}. Not measured on this model yet: what training says of the",
        "penalty and of T, and proxies of other sizes and architectures.",
        *_told(real["claims"]),
        "",
        "## On models made in code",
        "",
        "```sh",
        *shell(found["command"]),
        "```",
        "",
        f"Pool: {pool['rows']:,} rows, gradients of {pool['dimension']:,} numbers, {pool['chosen']:,} chosen.",
        *wrap(f"Models made in code and trained from scratch on {trained:,} tokens, by weights: {models}.", 120),
        f"torch {machine['torch']}, {found['date']}, seed {found['seed']}.",
        *_told(found["claims"]),
    ]
    return "\n".join([*lines, *LIMITS]) + "\n"


def _told(claims: list[dict[str, Any]]) -> list[str]:
    lines = []
    for claim in claims:
        lines += ["", f"### {claim['claim']}", ""]
        lines += [*wrap(f"**{claim['verdict']}** ({claim['rule']}).", 120), ""]
        for part in claim["numbers"].split(";"):
            lines += wrap(part.strip(), 120, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
    return lines
