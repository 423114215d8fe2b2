"""The loss and its gradient without all the logits, against autograd through the dense cross-entropy."""

from __future__ import annotations

import pytest
import torch

from spice_select.gradients.loss import VocabularyHead, cross_entropy_, head_gradient

HEADS = {"plain": {}, "scaled": {"scale": 0.25}, "capped": {"softcap": 3.0}, "both": {"scale": 2.0, "softcap": 5.0}}


def dense(
    hidden: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, head: VocabularyHead
) -> tuple[torch.Tensor, torch.Tensor]:
    hidden = hidden.clone().requires_grad_()
    logits = hidden @ head.weight.T
    if head.bias is not None:
        logits = logits + head.bias
    if head.scale is not None:
        logits = logits * head.scale
    if head.softcap is not None:
        logits = torch.tanh(logits / head.softcap) * head.softcap
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    (gradient,) = torch.autograd.grad((losses * weights).sum(), hidden)
    return losses.detach(), gradient


@pytest.mark.parametrize("rows_at_once", [1, 3, 1000])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", HEADS)
def test_loss_and_gradient_are_those_of_the_dense_way(kind: str, bias: bool, rows_at_once: int) -> None:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    head = VocabularyHead(draw(31, 6), draw(31) if bias else None, **HEADS[kind])
    hidden, weights = 2 * draw(17, 6), draw(17).abs()
    targets = torch.randint(31, (17,), generator=generator)
    losses, gradient = head_gradient(hidden, targets, weights, head, logit_bytes=rows_at_once * 31 * 8)
    expected_losses, expected = dense(hidden, targets, weights, head)
    assert torch.allclose(losses, expected_losses, rtol=1e-12, atol=0)
    assert torch.allclose(gradient, expected, rtol=1e-10, atol=1e-13)


def test_huge_and_hopeless_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-3e38, 3e38, 0.0], [0.0, 0.0, 0.0]])
    targets = torch.tensor([1, 1, 2])
    losses = cross_entropy_(logits, targets, torch.ones(3))
    assert losses.tolist() == pytest.approx([2e4, 0.0, 1.0986123])
    assert logits.tolist() == [[1, -1, 0], [0, 0, 0], pytest.approx([1 / 3, 1 / 3, -2 / 3])]


def test_no_positions_give_no_gradient() -> None:
    head = VocabularyHead(torch.ones(5, 2))
    losses, gradient = head_gradient(torch.empty(0, 2), torch.empty(0, dtype=torch.long), torch.empty(0), head)
    assert losses.shape == (0,)
    assert gradient.shape == (0, 2)


def test_no_block_of_logits_is_larger_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = VocabularyHead.logits

    def spying(head: VocabularyHead, hidden: torch.Tensor) -> torch.Tensor:
        logits = original(head, hidden)
        sizes.append(logits.numel() * logits.element_size())
        return logits

    monkeypatch.setattr(VocabularyHead, "logits", spying)
    head = VocabularyHead(torch.randn(1000, 4))
    head_gradient(torch.randn(500, 4), torch.arange(500), torch.ones(500), head, logit_bytes=100_000)
    assert max(sizes) <= 100_000
    assert sum(sizes) == 500 * 1000 * 4
