"""Hooks that turn one forward and backward pass into the per-sample features of a batch."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from spice_select.errors import UnsupportedProxyError
from spice_select.gradients.targets import Target


class _Tap(torch.autograd.Function):
    """Passes a layer's output on unchanged and hands the gradient that comes back to the recorder."""

    @staticmethod
    def forward(ctx: Any, output: torch.Tensor, _anchor: torch.Tensor, record: Callable[[torch.Tensor], None]) -> Any:
        """Pass the output on; the anchor requires a gradient, so the result does too."""
        ctx.record = record
        # The same memory, but not as a view: some models add to a layer's output in place.
        return output.data

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """Record, and pass on only what something earlier still needs."""
        ctx.record(gradients[0])
        return (gradients[0] if ctx.needs_input_grad[0] else None), None, None


class GradientHooks:
    """Hooks on the measured layers that fill one batch's features.

    Args:
        model: The model; its weights must be frozen.
        targets: What to measure.
    """

    def __init__(self, model: nn.Module, targets: list[Target]) -> None:
        self.targets = targets
        self.width = targets[-1].start + targets[-1].size
        self._anchor = torch.zeros((), device=next(model.parameters()).device, requires_grad=True)
        self._features: torch.Tensor | None = None
        self._shape = (0, 0)
        self._places: torch.Tensor | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> GradientHooks:
        for target in self.targets:
            self._handles.append(target.module.register_forward_hook(self._hook(target)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    @contextmanager
    def batch(self, rows: int, length: int, places: torch.Tensor | None = None) -> Generator[torch.Tensor]:
        """Record one forward and backward pass of a batch of shape (rows, length).

        Args:
            rows: Rows of tokens, b; each is an example unless ``places`` says otherwise.
            length: Tokens of each row, t.
            places: For a packed batch, where among the b * t tokens those of each example are, int64 of shape
                (n, longest) on the model's device; b * t where an example has no more.

        Yields:
            Features of shape (n, d), filled by the backward pass; n is b where nothing is packed.
        """
        wide = torch.promote_types(self.targets[0].weight.dtype, torch.float32)
        self._shape, self._places = (rows, length), places
        samples = rows if places is None else len(places)
        self._features = torch.zeros((samples, self.width), dtype=wide, device=self._anchor.device)
        try:
            yield self._features
        finally:
            self._features = self._places = None

    def _hook(self, target: Target) -> Callable[..., Any]:
        def hook(_module: nn.Module, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
            features = self._features
            if features is None:
                return None
            with torch.no_grad():
                kept = self._by_sample(target, arguments[0], target.inputs)

            def record(gradient: torch.Tensor) -> None:
                outputs = self._by_sample(target, gradient, target.outputs)
                left, right = (kept, outputs) if target.inputs_first else (outputs, kept)
                product = torch.bmm(left.to(features.dtype), right.to(features.dtype).mT)
                columns = features[:, target.start : target.start + target.size]
                columns.add_(product.flatten(1), alpha=target.scale)

            return _Tap.apply(output, self._anchor, record)  # type: ignore[no-untyped-call]

        return hook

    def _by_sample(self, target: Target, values: torch.Tensor, matrix: torch.Tensor | None) -> torch.Tensor:
        """The projected values as (n, p, t), whether the model keeps samples and tokens apart or not.

        Raises:
            UnsupportedProxyError: A layer that sees some tokens only, as an expert does.
        """
        rows, length = self._shape
        if values.shape[:-1] not in ((rows, length), (rows * length,)):
            raise UnsupportedProxyError(f"{target.name} does not see every token of every sample once")
        tokens = values.reshape(rows * length, values.shape[-1])
        if matrix is None and self._places is None:
            return tokens.view(rows, length, -1).mT
        # (p, w) times (w, b * t): matrix libraries are up to five times slower at (b * t, w) times a narrow (w, p).
        projected = tokens.T if matrix is None else matrix @ tokens.T
        if self._places is not None:
            # A segment sum as one product: each sample's own tokens, then zeros, which add nothing.
            padded = nn.functional.pad(projected, (0, 1))
            projected = padded.index_select(1, self._places.flatten())
            rows, length = self._places.shape
        return projected.view(len(projected), rows, length).transpose(0, 1)
