"""``spice-select pull``: every byte of a result, or what one trainer needs of it, beside what is there already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from spice_select.results.trainers import write_conversations
from tests.fixtures.commands import JOB, Command, Ended
from tests.fixtures.flaky import Drop, FlakyServer
from tests.fixtures.results import MadeResult


def pull(spice: Command, *arguments: object) -> Ended:
    ended = spice("pull", JOB, *arguments)
    assert ended.status == 0, ended.err
    return ended


def test_pull_fetches_everything_and_verify_holds(
    job_files: FlakyServer, spice: Command, made: MadeResult, tmp_path: Path
) -> None:
    job_files.fail(f"GET /v1/jobs/{JOB}/files/selected.parquet", Drop(500))
    files = pull(spice, "-o", tmp_path / "out", "--json").json()["files"]
    assert sorted(files) == sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(job_files.files)
    ended = spice("verify", tmp_path / "out", "--source", made.source)
    assert ended.status == 0
    assert all(line.startswith("ok") for line in ended.out.splitlines())
    (tmp_path / "out" / "selected.jsonl").write_bytes(b"{}\n")
    ended = spice("verify", tmp_path / "out", "--json")
    assert ended.status == 1
    assert not ended.json()["ok"]
    assert "FAILED  digests: selected.jsonl" in spice("verify", tmp_path / "out").out


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("jsonl", {"selected.jsonl"}),
        ("parquet", {"selected.parquet"}),
        ("hf", {"README.md", "selected.jsonl", "selected.parquet"}),
    ],
)
def test_pull_of_one_format_fetches_what_it_needs(
    job_files: FlakyServer, spice: Command, tmp_path: Path, form: str, names: set[str]
) -> None:
    pull(spice, "-o", tmp_path / "out", "--format", form)
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


def test_pull_for_hugging_face_is_a_folder_whose_card_names_its_data(
    job_files: FlakyServer, spice: Command, tmp_path: Path
) -> None:
    pull(spice, "-o", tmp_path, "--format", "hf")
    header = yaml.safe_load((tmp_path / "README.md").read_text().split("---\n")[1])
    (data,) = header["configs"][0]["data_files"]
    assert pq.read_table(tmp_path / data["path"]).num_rows == 4


def test_pull_for_llamafactory_merges_and_never_clobbers(
    job_files: FlakyServer, spice: Command, made: MadeResult, tmp_path: Path
) -> None:
    mine = {"identity": {"file_name": "identity.json"}, "ü": {"hf_hub_url": "x"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(mine, ensure_ascii=False), encoding="utf-8")
    (tmp_path / "identity.json").write_text("[]")
    for _ in range(2):
        pull(spice, "-o", tmp_path, "--format", "llamafactory")
    label = "spice_pool_4w7y0abc"
    info = json.loads((tmp_path / "dataset_info.json").read_text(encoding="utf-8"))
    assert info == {
        **mine,
        label: {
            "file_name": f"{label}.jsonl",
            "formatting": "alpaca",
            "columns": {"prompt": "instruction", "query": "input", "response": "output"},
        },
    }
    assert (tmp_path / f"{label}.jsonl").read_bytes() == (made.out / "selected.jsonl").read_bytes()
    pull(spice, "-o", tmp_path, "--format", "llamafactory", "--name", "second")
    # A name that is taken by something else stays with it.
    refused = spice("pull", JOB, "-o", tmp_path, "--format", "llamafactory", "--name", "identity")
    assert refused.status == 2
    assert "already has another entry named 'identity'" in refused.err
    (tmp_path / "third.jsonl").write_text("mine")
    assert spice("pull", JOB, "-o", tmp_path, "--format", "llamafactory", "--name", "third").status == 2
    assert (tmp_path / "third.jsonl").read_text() == "mine"
    assert set(json.loads((tmp_path / "dataset_info.json").read_text())) == {*mine, label, "second"}
    (tmp_path / "dataset_info.json").write_text("{broken")
    assert spice("pull", JOB, "-o", tmp_path, "--format", "llamafactory").status == 2
    assert (tmp_path / "dataset_info.json").read_text() == "{broken"


@pytest.mark.parametrize("form", ["axolotl", "trl", "swift"])
def test_pull_for_axolotl_trl_and_swift_writes_conversations_and_their_configuration(
    job_files: FlakyServer, spice: Command, made: MadeResult, tmp_path: Path, form: str
) -> None:
    statement = json.loads((made.out / "provenance.intoto.jsonl").read_text())
    job_files.statements[JOB] = statement
    pull(spice, "-o", tmp_path, "--format", form)
    said = yaml.safe_load((tmp_path / f"{form}.yaml").read_text())
    if form == "swift":
        # ms-swift turns each key into a flag: --dataset PATH. Nothing else may be in it.
        assert list(said) == ["dataset"]
        (path,) = said["dataset"]
    else:
        (block,) = said["datasets"]
        path = block["path"] if form == "axolotl" else block["data_files"]
        assert block["split"] == "train"
    if form == "axolotl":
        assert (block["ds_type"], block["type"], block["field_messages"]) == ("json", "chat_template", "messages")
    rows = Path(path)
    assert rows == tmp_path / "train.jsonl"
    records = [json.loads(line) for line in made.lines()]
    for row, record in zip(map(json.loads, rows.read_text(encoding="utf-8").splitlines()), records, strict=True):
        asked = "\n\n".join(part for part in (record["instruction"], record["input"]) if part)
        assert row == {
            "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": record["output"]}]
        }


def test_pull_of_a_job_without_files_says_its_status(service: FlakyServer, spice: Command, tmp_path: Path) -> None:
    service.states[0] = {"id": JOB, "status": "running"}
    ended = spice("pull", JOB, "-o", tmp_path / "out")
    assert ended.status == 1
    assert f"{JOB} has no files: it is running" in ended.err


@pytest.mark.parametrize(("trainer", "expected"), [("trl", "text"), ("axolotl", "text"), ("swift", "messages")])
def test_plain_text_is_what_the_trainer_calls_it(tmp_path: Path, trainer: Any, expected: str) -> None:
    (tmp_path / "selected.jsonl").write_text('{"body": "Once."}\n')
    count = write_conversations(
        tmp_path / "selected.jsonl", tmp_path / "train.jsonl", "text", {"text": "body"}, trainer=trainer
    )
    row = json.loads((tmp_path / "train.jsonl").read_text())
    answer = {"text": "Once.", "messages": [{"role": "assistant", "content": "Once."}]}[expected]
    assert (count, row) == (1, {expected: answer})
