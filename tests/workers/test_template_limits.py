"""A chat template that eats memory or time ends its job with a code; the worker lives on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spice_select.config import ProxyConfig
from spice_select.models.tokenizer import proxy_tokenizer
from spice_select.records.conversation import Conversation
from spice_select.records.tokenize import encode
from tests.fixtures.models import tiny_folder
from tests.fixtures.service import InProcessService, jsonl, sums
from workers.tokenizer_process import TokenizerProcess

MEMORY = "{% set x = namespace(s='a') %}{% for i in range(60) %}{% set x.s = x.s ~ x.s %}{% endfor %}"
TIME = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize("template", [MEMORY, TIME], ids=["memory", "time"])
def test_a_template_that_takes_too_much_fails_the_job_at_once(sqlite_url: str, tmp_path: Path, template: str) -> None:
    folder = tiny_folder(tmp_path / "models" / "greedy", template)
    with InProcessService(
        sqlite_url,
        tmp_path / "data",
        proxy_root=tmp_path / "models",
        template_memory_bytes=2**30,
        template_seconds=2,
    ) as service:
        dataset = service.push(jsonl(sums(6)))
        job = service.submit(dataset["id"], proxy={"model": str(folder)})
        assert service.drain() == 1
        done = service.job(job["id"])
        assert (done["status"], done["error"]["code"]) == ("failed", "template-limit")
        assert not done["error"]["retryable"]
        again = service.submit(dataset["id"])
        service.drain()
        assert service.job(again["id"])["status"] == "succeeded"


def test_a_child_gives_the_examples_that_this_process_would(tmp_path: Path) -> None:
    proxy = ProxyConfig(model=str(tiny_folder(tmp_path / "model")))
    conversations: list[Any] = [
        Conversation([{"role": "user", "content": f"Add {i}\u2028\r\n"}, {"role": "assistant", "content": "Yes " * i}])
        for i in range(1, 40)
    ]
    conversations.append(Conversation([{"role": "user", "content": "\ud800"}, {"role": "assistant", "content": "x"}]))
    conversations.append(
        Conversation(
            [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b", "weight": 0.5},
                {"role": "user", "content": "c"},
                {"role": "assistant", "content": "d"},
            ],
            tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
        )
    )
    asked: dict[str, Any] = {"max_length": 60, "overflow": "truncate", "today": "2025-01-01"}
    here = encode(conversations, proxy_tokenizer(proxy), **asked)
    child = TokenizerProcess(proxy, 2**30, 60)
    assert encode(conversations, child, **asked) == here
    assert here.truncated
    assert here.excluded
    child.limit(30)
    assert max(len(example.input_ids) for example in encode(conversations, child, **asked).examples) == 30
    child.close()


@pytest.mark.parametrize(
    "template",
    ["{{ 'a' * 10**12 }}", "{{ 10 ** 10**9 }}", "{% for i in range(10**9) %}{% endfor %}", "{{ [0] * 10**10 }}"],
)
def test_the_library_refuses_what_would_fill_the_memory_by_one_operation(template: str) -> None:
    tokenizer = proxy_tokenizer(ProxyConfig())
    tokenizer.chat_template = template
    row: Any = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (excluded,) = encode([row], tokenizer, max_length=64).excluded
    assert excluded.code == "template-refused"
