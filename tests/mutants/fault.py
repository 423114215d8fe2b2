"""The faults: a file, an exact piece of it, what stands there instead, and the tests that are expected to notice.

A piece has to occur once in its file. When a change removes it, `make mutants` says so; move the fault to where the
same decision is made now, rather than dropping it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Area = Literal["selection", "gradients", "units", "http"]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: What goes wrong.
        area: Part of the product.
        file: Path from the root of the checkout.
        old: What is there.
        new: The fault.
        tests: Files of tests that are expected to notice, the likeliest first.
    """

    name: str
    area: Area
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
