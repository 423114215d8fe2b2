"""Two-sided sketches keep inner products, as well for a wide layer as for a narrow one."""

from __future__ import annotations

import itertools

import pytest
import torch

from spice_select.gradients.projection import make_sketch
from spice_select.models.projection_shape import SketchShape, sketch_shape


def sketched(shape: SketchShape, gradient: torch.Tensor, seed: int, layer: str = "layer") -> torch.Tensor:
    sketch = make_sketch(layer, shape, seed, dtype=torch.float64)
    if sketch.inputs is not None:
        gradient = gradient @ sketch.inputs.T
    if sketch.outputs is not None:
        gradient = sketch.outputs @ gradient
    return (gradient * sketch.scale).flatten()


def gradient_pair(out_features: int, in_features: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two matrices of rank 4 and length one, alike in everything but their size: same angles, same singular values."""
    generator = torch.Generator().manual_seed(seed)

    def directions(width: int) -> torch.Tensor:
        return torch.linalg.qr(torch.randn(width, 4, generator=generator, dtype=torch.float64))[0]

    left, right = directions(out_features), directions(in_features)
    first = left @ torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)) @ right.T
    second = left @ torch.diag(torch.tensor([3.0, -1.0, 2.0, 2.0], dtype=torch.float64)) @ right.T
    return first / first.norm(), second / second.norm()


SHAPES = [(32, 32), (256, 16), (16, 256), (300, 200)]
DRAWS = 600


@pytest.mark.parametrize(("out_features", "in_features"), SHAPES)
def test_inner_products_are_unbiased_and_within_the_variance_of_theory(out_features: int, in_features: int) -> None:
    first, second = gradient_pair(out_features, in_features, seed=1)
    shape = sketch_shape(in_features, out_features, 64)
    assert (shape.p_in, shape.p_out) == (8, 8)
    bound = (1 + 2 / 8) * (1 + 2 / 8) - 1
    found = torch.stack([sketched(shape, first, seed) @ sketched(shape, second, seed) for seed in range(DRAWS)])
    # five standard errors of a mean of 600 draws: a correct sketch fails once in two million
    assert abs(float(found.mean() - (first * second).sum())) < 5 * (bound / DRAWS) ** 0.5
    assert float(found.var()) < bound * 1.25


def test_variance_does_not_depend_on_the_shape_of_the_layer() -> None:
    spreads = []
    for out_features, in_features in SHAPES:
        first, second = gradient_pair(out_features, in_features, seed=2)
        shape = sketch_shape(in_features, out_features, 64)
        draws = [sketched(shape, first, seed) @ sketched(shape, second, seed) for seed in range(DRAWS)]
        spreads.append(float(torch.stack(draws).var()))
    # a projection scaled by 1/n instead of 1/p would spread these by a factor of hundreds
    assert max(spreads) / min(spreads) < 1.6


def test_the_largest_variance_is_that_of_parallel_outer_products() -> None:
    # equal rank-one gradients of spread vectors meet the bound: 2/p + 2/p + 4/p^2
    gradient = torch.full((64, 64), 1 / 64, dtype=torch.float64)
    shape = sketch_shape(64, 64, 64)
    found = torch.stack([sketched(shape, gradient, seed).square().sum() for seed in range(2000)])
    bound = (1 + 2 / 8) ** 2 - 1
    assert abs(float(found.mean()) - 1) < 5 * (bound / 2000) ** 0.5
    assert 0.75 * bound < float(found.var()) < 1.25 * bound


@pytest.mark.parametrize("dim", [1, 2, 7, 12, 48, 61, 64, 100, 512, 1024])
def test_a_layer_never_gets_more_numbers_than_asked_for(dim: int) -> None:
    for in_features, out_features in itertools.product([1, 2, 5, 8, 16, 63, 64, 1000], repeat=2):
        shape = sketch_shape(in_features, out_features, dim)
        assert 1 <= shape.p_in <= in_features
        assert 1 <= shape.p_out <= out_features
        assert shape.size <= dim
        if in_features * out_features <= dim:
            assert shape.size == in_features * out_features


def test_the_sides_share_as_a_square_would_and_the_wider_side_gets_more() -> None:
    assert sketch_shape(1000, 1000, 64) == SketchShape(1000, 1000, 8, 8)
    assert sketch_shape(1000, 500, 48) == SketchShape(1000, 500, 8, 6)
    assert sketch_shape(500, 1000, 48) == SketchShape(500, 1000, 6, 8)
    assert sketch_shape(4, 1000, 64) == SketchShape(4, 1000, 4, 16)
    assert sketch_shape(1000, 4, 64) == SketchShape(1000, 4, 16, 4)


def test_a_small_layer_is_kept_exactly() -> None:
    first, second = gradient_pair(4, 16, seed=3)
    shape = sketch_shape(16, 4, 64)
    assert torch.equal(sketched(shape, first, 0), first.flatten())
    assert torch.equal(sketched(sketch_shape(16, 4, None), second, 0), second.flatten())


def test_signs_are_fixed_by_name_seed_and_version() -> None:
    shape = sketch_shape(10, 12, 6)
    sketch = make_sketch("model.layers.0.mlp.up_proj", shape, seed=5)
    assert sketch.inputs is not None
    assert sketch.outputs is not None
    # written down once: another machine, torch or numpy has to draw the very same
    assert sketch.inputs[:, :3].tolist() == [[1.0, 1.0, -1.0], [1.0, 1.0, -1.0]]
    assert sketch.outputs[0, :4].tolist() == [1.0, 1.0, 1.0, -1.0]
    assert set(sketch.outputs.flatten().tolist()) == {1.0, -1.0}


def test_other_layers_seeds_and_sides_are_independent() -> None:
    shape = sketch_shape(256, 256, 64)
    signs = []
    for layer, seed in [("a", 0), ("b", 0), ("a", 1)]:
        sketch = make_sketch(layer, shape, seed, dtype=torch.float64)
        assert sketch.inputs is not None
        assert sketch.outputs is not None
        signs += [sketch.inputs.flatten(), sketch.outputs.flatten()]
    agreement = torch.stack(signs) @ torch.stack(signs).T / len(signs[0])
    assert float((agreement - torch.eye(len(signs))).abs().max()) < 5 / len(signs[0]) ** 0.5
