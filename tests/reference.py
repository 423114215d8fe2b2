"""The slow, obvious twin of every fast path: loops, dense matrices, float64. The oracle of the tests.

Nothing here imports from the package under test except plain types.
"""

from __future__ import annotations
