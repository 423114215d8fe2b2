"""submodlib's LogDeterminant on a pool in a file; runs in an interpreter that has numpy and submodlib, and no other.

    python _submodlib.py POOL.npy ROWS COUNT

The last line of its output is ``#`` and JSON; the lines before are submodlib's own.
"""

import json
import resource
import sys
import time
from importlib.metadata import version

import numpy as np
from submodlib import LogDeterminantFunction


def main() -> None:
    path, rows, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    pool = np.load(path, mmap_mode="r")[:rows].astype(np.float64)
    began = time.perf_counter()
    kernel = pool @ pool.T
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    function = LogDeterminantFunction(n=rows, mode="dense", lambdaVal=1, sijs=kernel)
    picks = function.maximize(
        budget=count,
        optimizer="LazyGreedy",
        stopIfZeroGain=False,
        stopIfNegativeGain=False,
        verbose=False,
        show_progress=False,
    )
    answer = {
        "indices": [row for row, _ in picks],
        "seconds": time.perf_counter() - began,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        # What n x n numbers cost: the matrix itself and what submodlib makes of it.
        "kernel_gib": kernel.nbytes / 2**30 + (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20,
        "versions": {name: version(name) for name in ("submodlib-py", "numpy")},
    }
    print("\n#" + json.dumps(answer))


if __name__ == "__main__":
    main()
