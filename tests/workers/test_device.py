"""Where and with how many threads a worker computes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from workers.device import NARROW, fitting_threads, resolve_device


def model(hidden_size: int, device: str = "cpu") -> SimpleNamespace:
    return SimpleNamespace(device=torch.device(device), config=SimpleNamespace(hidden_size=hidden_size))


@pytest.mark.parametrize(("hidden_size", "device", "threads"), [(64, "cpu", 1), (NARROW, "cpu", 2), (64, "cuda", 2)])
def test_a_narrow_model_on_a_processor_gets_one_thread(hidden_size: int, device: str, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with fitting_threads(model(hidden_size, device)):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_processor_is_taken_when_asked_for() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
