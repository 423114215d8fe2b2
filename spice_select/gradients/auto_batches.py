"""``batch_tokens="auto"``: the largest batch that fits the memory which is free at this moment, as a number."""

from __future__ import annotations

from typing import Any

from transformers.pytorch_utils import Conv1D

from spice_select.config import GradientConfig
from spice_select.gradients.loss import head_of
from spice_select.models.architecture import ProxyShape
from spice_select.models.batch_memory import MOST_ON_CPU, MOST_ON_GPU, batch_memory, fitting_batch_tokens
from spice_select.models.layers import is_adapter, linear_layers
from spice_select.models.memory import free_bytes


def settled(
    model: Any, config: GradientConfig, *, rows: int, longest: int | None = None, tuned: bool = False
) -> GradientConfig:
    """The settings with ``auto`` made a number; as they are where it is one.

    Args:
        model: The loaded model; its device is looked at.
        config: What is measured.
        rows: Samples whose gradients are held at a time.
        longest: Tokens of the longest of them; ``max_length`` when left out.
        tuned: Whether the model goes on being tuned between batches.
    """
    if config.batch_tokens != "auto":
        return config
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    device = model.get_input_embeddings().weight.device
    on_cpu = device.type == "cpu"
    memory = batch_memory(
        model_shape(model),
        config,
        rows if on_cpu else 0,  # they are kept in the memory of the machine
        tuned=tuned,
        loaded=True,
        whole_logits=head_of(model) is None,
    )
    tokens = fitting_batch_tokens(
        free_bytes(str(device)), memory, longest or config.max_length, MOST_ON_CPU if on_cpu else MOST_ON_GPU
    )
    return config.model_copy(update={"batch_tokens": tokens})


def model_shape(model: Any) -> ProxyShape:
    """Sizes of a loaded model of whatever kind, with all its layers in one block.

    Args:
        model: A causal language model.
    """
    layers = []
    for name, layer in linear_layers(model):
        if is_adapter(name):
            continue
        weight: Any = layer.weight
        first, second = weight.shape
        layers.append((first, second) if isinstance(layer, Conv1D) else (second, first))
    vocabulary, width = model.get_input_embeddings().weight.shape
    head = model.get_output_embeddings()
    shared = head is None or head.weight is model.get_input_embeddings().weight
    return ProxyShape(1, tuple(layers), vocabulary, width, 1 if shared else 2)
