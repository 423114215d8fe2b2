"""``python -m benchmarks.quality --protocol FILE --resume``: selection against random rows on a real language model.

Runs the cells of a protocol in their order. Every block of gradients, every selection and every training is kept
under ``--work`` as soon as it is finished, so that the command may be killed at any time and run again; several may run
side by side. A training that is published beside this file is not done again, unless ``--anew`` asks for it.
``--report`` gathers what is finished into ``SCALE.parquet``, ``SCALE.json`` and ``README.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch

from benchmarks.quality.cache import Cache
from benchmarks.quality.published import restore
from benchmarks.quality.runner import Runner
from benchmarks.quality.scales import Protocol

HERE = Path(__file__).resolve().parent
TOLD = HERE.parents[1] / "spice_select" / "results" / "measured.json"
"""What every result says of its method."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", type=Path, default=HERE / "protocol.toml")
    parser.add_argument("--scale", default="cpu", help="a scale of the protocol file")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: bfloat16 where the device has it")
    parser.add_argument("--data", type=Path, default=os.environ.get("SPICE_EVIDENCE_DATA"), help="folder of the data")
    parser.add_argument("--model", default=os.environ.get("SPICE_EVIDENCE_MODEL"), help="folder of the model")
    parser.add_argument("--work", type=Path, default=Path("quality-work"), help="keeps whatever is finished")
    parser.add_argument("--resume", action="store_true", help="go on in a folder that holds finished units")
    parser.add_argument("--minutes", type=float, help="begin no further unit after so long")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--anew", action="store_true", help="train again what is published")
    parser.add_argument("--report", type=Path, help="only write the results of what is finished into this folder")
    parser.add_argument("--claims", type=Path, help="only check the paper's claims on the first pool into this folder")
    given = parser.parse_args()
    if given.data is None or given.model is None:
        parser.error("--data and --model are needed (or SPICE_EVIDENCE_DATA and SPICE_EVIDENCE_MODEL)")
    if given.work.exists() and not (given.resume or given.report or given.claims):
        parser.error(f"{given.work} is there already; --resume goes on in it")
    if given.threads:
        torch.set_num_threads(given.threads)
    scale = Protocol.read(given.protocol).scales[given.scale]
    runner = Runner(scale, given.data, given.model, Cache(given.work), given.device, given.dtype)
    if not given.anew:
        print(f"{restore(runner, given.scale, HERE)} published trainings are not done again")
    if given.report:
        from benchmarks.quality.pages import measured
        from benchmarks.quality.report import write_report

        write_report(runner, given.scale, given.report)
        if given.report.resolve() == HERE:
            TOLD.write_text(json.dumps(measured(HERE), indent=1) + "\n", encoding="utf-8")
        return
    if given.claims:
        from benchmarks.quality.claims import claims_on

        found = json.dumps(claims_on(runner, given.scale), indent=1)
        (given.claims / "claims.json").write_text(found + "\n", encoding="utf-8")
        return
    until = None if given.minutes is None else time.monotonic() + 60 * given.minutes
    is_finished = runner.run(until)
    print("finished" if is_finished else "stopped: there is more to do")


if __name__ == "__main__":
    main()
