"""Choose the part of an instruction-tuning data set that is worth training on (SPICE, arXiv 2601.23155).

Importing this package never imports torch, transformers or numpy: the names that need them are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spice_select.config import Budget, Conditions, GradientConfig, ProxyConfig, RunConfig, SelectionConfig
from spice_select.version import __version__

if TYPE_CHECKING:
    from spice_select.gradients.collect import collect_gradients
    from spice_select.models.proxy import load_proxy
    from spice_select.pipeline.run import run
    from spice_select.pipeline.targets import TargetFile
    from spice_select.records.tokenize import Example, load_examples
    from spice_select.selection.bm25 import bm25_scores
    from spice_select.selection.select import Selection, select
    from spice_select.selection.whitening import whiten

__all__ = [
    "Budget",
    "Conditions",
    "Example",
    "GradientConfig",
    "ProxyConfig",
    "RunConfig",
    "Selection",
    "SelectionConfig",
    "TargetFile",
    "__version__",
    "bm25_scores",
    "collect_gradients",
    "load_examples",
    "load_proxy",
    "run",
    "select",
    "whiten",
]

_LAZY = {
    "bm25_scores": "spice_select.selection.bm25",
    "Example": "spice_select.records.tokenize",
    "load_examples": "spice_select.records.tokenize",
    "collect_gradients": "spice_select.gradients.collect",
    "Selection": "spice_select.selection.select",
    "select": "spice_select.selection.select",
    "run": "spice_select.pipeline.run",
    "TargetFile": "spice_select.pipeline.targets",
    "whiten": "spice_select.selection.whitening",
    "load_proxy": "spice_select.models.proxy",
}


def __getattr__(name: str) -> Any:
    """Load a public name that needs torch on first use.

    Raises:
        AttributeError: There is no such name.
    """
    if name not in _LAZY:
        raise AttributeError(f"module 'spice_select' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
