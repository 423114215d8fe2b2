"""Faults of what is measured."""

from __future__ import annotations

from tests.mutants.fault import Fault

_GRADIENTS = "tests/library/test_gradients.py"

GRADIENTS = (
    Fault(
        "each position learns its own token",
        "gradients",
        "spice_select/gradients/batching.py",
        "torch.tensor(example.labels[1:], dtype=torch.int64)",
        "torch.tensor(example.labels[:-1], dtype=torch.int64)",
        ("tests/library/test_batches.py", _GRADIENTS),
    ),
    Fault(
        "the mean loss is a sum",
        "gradients",
        "spice_select/gradients/forward.py",
        'self.mean = config.loss == "mean"',
        "self.mean = False",
        (_GRADIENTS,),
    ),
    Fault(
        "a sketch is scaled by the size and not by its root",
        "gradients",
        "spice_select/gradients/projection.py",
        "scale /= math.sqrt(shape.p_out)",
        "scale /= shape.p_out",
        ("tests/library/test_sketch.py",),
    ),
    Fault(
        "both sides of a layer are projected by the same signs",
        "gradients",
        "spice_select/gradients/projection.py",
        '_signs(f"{layer}|out|{seed}"',
        '_signs(f"{layer}|in|{seed}"',
        ("tests/library/test_sketch.py",),
    ),
    Fault(
        "the scale of an adapter is upside down",
        "gradients",
        "spice_select/gradients/targets.py",
        "scale *= config.lora_alpha / config.lora_rank",
        "scale *= config.lora_rank / config.lora_alpha",
        (_GRADIENTS,),
    ),
    Fault(
        "the gradient of Conv1D is transposed",
        "gradients",
        "spice_select/gradients/hooks.py",
        "left, right = (kept, outputs) if target.inputs_first else (outputs, kept)",
        "left, right = (outputs, kept)",
        (_GRADIENTS,),
    ),
    Fault(
        "the slope of a squashed logit is left out",
        "gradients",
        "spice_select/gradients/loss.py",
        "1 - (logits / head.softcap) ** 2",
        "torch.ones_like(logits)",
        ("tests/library/test_loss.py",),
    ),
    Fault(
        "the scale of the logits is left out of their gradient",
        "gradients",
        "spice_select/gradients/loss.py",
        "return losses, gradient if head.scale is None else gradient.mul_(head.scale)",
        "return losses, gradient",
        ("tests/library/test_loss.py",),
    ),
    Fault(
        "logits are not shifted before they are raised",
        "gradients",
        "spice_select/gradients/loss.py",
        "logits.sub_(logits.amax(dim=1, keepdim=True))",
        "logits.sub_(0.0)",
        ("tests/library/test_loss.py",),
    ),
    Fault(
        "positions after padding on the left begin at one",
        "gradients",
        "spice_select/gradients/batching.py",
        "(batch.attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)",
        "batch.attention_mask.long().cumsum(dim=1)",
        (_GRADIENTS,),
    ),
    Fault(
        "the last token of a packed sample learns the first of the next",
        "gradients",
        "spice_select/gradients/batching.py",
        "targets = [[*example.labels[1:], IGNORED] for example in examples]",
        "targets = [[*example.labels[1:], example.labels[-1]] for example in examples]",
        ("tests/library/test_packed.py",),
    ),
    Fault(
        "a gradient that is not finite reaches the result",
        "gradients",
        "spice_select/gradients/per_sample.py",
        "features = torch.where(finite.unsqueeze(1), features, 0.0)",
        "features = features * 1.0",
        (_GRADIENTS,),
    ),
)
