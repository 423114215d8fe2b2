"""A result names the rows that were cut, and says what the chat template left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import spice_select as ss
from spice_select.pipeline.run import run
from tests.fixtures.models import tiny_folder
from tests.fixtures.service import jsonl

PLAIN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}<|im_end|>\n{% endfor %}"


@pytest.mark.parametrize("schedule", ["offline", "periodic"])
def test_cut_rows_are_named_and_what_is_not_rendered_is_said(tmp_path: Path, schedule: str) -> None:
    thought = {"role": "assistant", "content": "It is 2.", "reasoning_content": "One and one."}
    records: list[dict[str, Any]] = [{"messages": []}]  # not usable: rows of the source and positions differ
    for number in range(8):
        answer = {"role": "assistant", "content": "So it is. " * (60 if number in {2, 5} else 1)}
        asked = {"role": "user", "content": f"What is {number}?"}
        records.append({"messages": [asked, thought if number == 4 else answer]})
    (tmp_path / "pool.jsonl").write_bytes(jsonl(records))
    periodic = {"schedule": {"kind": "periodic", "steps_every": None}}
    config = ss.RunConfig.model_validate(
        {
            "proxy": {"model": str(tiny_folder(tmp_path / "model", PLAIN))},
            "gradients": {"sketch_dim": 4, "max_length": 64},
            "selection": {
                "budget": {"count": 4},
                **({"scope": {"kind": "windows", "size": 8}} if schedule == "periodic" else {}),
            },
            **(periodic if schedule == "periodic" else {}),
        }
    )
    summary = run(tmp_path / "pool.jsonl", config).summary
    assert (summary["truncated"], summary["truncated_samples"]) == (2, [3, 6])
    told = summary["notes"][0]
    assert told.startswith("reasoning-not-rendered: ")
    assert told.endswith("(1 rows)")
