"""A LoRA adapter of PEFT, merged into the model it was trained on."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from spice_select.errors import ProxyError, UnsupportedProxyError
from spice_select.models.model_files import ADAPTER


def merge_adapter(model: Any, folder: Path) -> Any:
    """The model with the adapter in its weights.

    Args:
        model: A causal language model of transformers; it is changed.
        folder: A folder as PEFT saves it, checked by ``check_adapter``.

    Raises:
        UnsupportedProxyError: The package ``peft`` is not installed.
        ProxyError: The adapter is broken, is for another model, or holds NaN.
    """
    if find_spec("peft") is None:
        raise UnsupportedProxyError(
            "proxy.adapter needs the package peft: pip install 'spice-select[peft]'", pointer=ADAPTER
        )
    from peft import PeftModel, get_peft_model_state_dict

    try:
        with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
            stored = len(file.keys())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they warn of is counted below
            adapted = PeftModel.from_pretrained(model, str(folder), local_files_only=True)
            expected = len(get_peft_model_state_dict(adapted))
            if stored != expected:
                detail = f"the adapter {folder.name} has {stored} tensors, its layers in this model {expected}"
                raise ProxyError(f"{detail}: it is for another model", pointer=ADAPTER)
            return adapted.merge_and_unload(safe_merge=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        said = " ".join(str(error).split())[:300]
        raise ProxyError(f"the adapter {folder.name} cannot be merged: {said}", pointer=ADAPTER) from error
