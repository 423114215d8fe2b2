"""submodlib's LogDeterminant on a pool in a file; runs in an interpreter that has numpy and submodlib, and no other.

    python _submodlib.py POOL.npy ROWS COUNT [GIB]

With GIB the process may map that much memory and no more; what it asks for beyond is an error of its own.

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
    if len(sys.argv) > 4:
        most = int(float(sys.argv[4]) * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    pool = np.load(path, mmap_mode="r")[:rows].astype(np.float64)
    began, began_processor = time.perf_counter(), time.process_time()
    answer: dict[str, object] = {"indices": None, "out_of_memory": False}
    before = 0
    try:
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
        answer["indices"] = [row for row, _ in picks]
    except MemoryError:
        answer["out_of_memory"] = True
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer |= {
        "seconds": time.perf_counter() - began,
        "processor_seconds": time.process_time() - began_processor,
        "peak_gib": peak / 2**20,
        # What n x n numbers cost: the matrix itself and what submodlib makes of it.
        "kernel_gib": rows * rows * 8 / 2**30 + (peak - before) / 2**20,
        "versions": {name: version(name) for name in ("submodlib-py", "numpy")},
    }
    print("\n#" + json.dumps(answer))


if __name__ == "__main__":
    main()
