"""Lines to copy that bring a result to where it is trained on."""

from __future__ import annotations

from typing import NamedTuple


class Use(NamedTuple):
    """One way.

    Attributes:
        title: For whom.
        text: What to run.
    """

    title: str
    text: str


def uses(base: str, job_id: str, *, keys: bool) -> list[Use]:
    """Ways to fetch the result of a job.

    Args:
        base: Address of the service, without a slash at the end.
        job_id: The job.
        keys: Whether callers have to show a key, which the lines take from ``SPICE_API_KEY``.
    """
    files = f"{base}/v1/jobs/{job_id}/files"
    header = '-H "Authorization: Bearer $SPICE_API_KEY" ' if keys else ""
    loading = [
        "from datasets import load_dataset",
        "",
        f'chosen = load_dataset("json", data_files="{files}/selected.jsonl", split="train"',
    ]
    if keys:
        loading.insert(0, "import os")
        loading[-1] += ","
        loading.append('    storage_options={"headers": {"Authorization": "Bearer " + os.environ["SPICE_API_KEY"]}})')
    else:
        loading[-1] += ")"
    pull = f"SPICE_API_URL={base} spice-select pull {job_id}"
    return [
        Use("Hugging Face datasets", "\n".join(loading)),
        Use("Command line: every file, digests checked", f"{pull} -o chosen"),
        Use("LLaMA-Factory: adds to its dataset_info.json", f"{pull} --format llamafactory -o data"),
        Use("TRL (or axolotl, swift): conversations and configuration", f"{pull} --format trl -o data"),
        Use("curl", f"curl --fail --remote-name {header}{files}/selected.jsonl"),
    ]
