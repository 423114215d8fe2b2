"""Whatever is changed in a result folder, the verification notices."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spice_select.errors import VerificationError
from spice_select.results.result_folder import MEDIA_TYPES, STATED, stated_dataset
from spice_select.results.verify import same_values, verify_folder
from tests.conftest import SEED
from tests.fixtures.results import MadeResult, alpaca, jsonl, make_result, seal


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeResult:
    records: list[Any] = [{**record, "n": i if i % 2 else str(i)} for i, record in enumerate(alpaca(60))]
    records[3] = []
    return make_result(tmp_path_factory.mktemp("made"), jsonl(records), count=9, seed=SEED)


@pytest.fixture
def folder(made: MadeResult, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.out, tmp_path / "copy"))


def failed(folder: Path, source: Path | None = None) -> set[str]:
    return {check.name for check in verify_folder(folder, source).checks if not check.ok}


def test_a_sound_folder_holds_with_and_without_its_source(made: MadeResult) -> None:
    assert failed(made.out) == set()
    report = verify_folder(made.out, made.source)
    assert report.ok
    report.raise_if_failed()
    assert [check.name for check in report.checks] == [
        "digests", "provenance", "rows", "parquet", "trace", "evidence", "conditions", "croissant", "other files",
        "source", "source rows",
    ]  # fmt: skip


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_any_flipped_bit_is_noticed(folder: Path, name: str, seed: int) -> None:
    whole = (folder / name).read_bytes()
    generator = random.Random(seed)
    places = {0, len(whole) - 1, *(generator.randrange(len(whole)) for _ in range(25))}
    for place in sorted(places):
        changed = bytearray(whole)
        changed[place] ^= 1 << generator.randrange(8)
        (folder / name).write_bytes(changed)
        assert "digests" in failed(folder), f"bit flipped at byte {place} of {name}"
    (folder / name).write_bytes(whole)
    assert failed(folder) == set()


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_a_missing_or_shortened_file_is_noticed(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-1])
    assert "digests" in failed(folder)
    (folder / name).unlink()
    report = verify_folder(folder)
    assert any(name in check.detail for check in report.checks if not check.ok)


def edit_lines(edit: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "selected.jsonl"
        path.write_bytes(b"".join(line + b"\n" for line in edit(path.read_bytes().split(b"\n")[:-1])))

    return apply


def edit_table(name: str, edit: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    return lambda folder: pq.write_table(edit(pq.read_table(folder / name)), folder / name)


def set_value(column: str, row: int, value: Any) -> Callable[[pa.Table], pa.Table]:
    def edit(table: pa.Table) -> pa.Table:
        values = table.column(column).to_pylist()
        values[row] = value
        field = table.schema.field(column)
        return table.set_column(table.schema.names.index(column), field, pa.array(values, field.type))

    return edit


def swapped(table: pa.Table) -> pa.Table:
    return table.take([1, 0, *range(2, table.num_rows)])


def one_more(table: pa.Table) -> pa.Table:
    """A row that is said to be selected, of a rank that nothing has."""
    row = table.filter(table["rank"].is_valid()).slice(0, 1)
    return set_value("rank", 0, 10_000)(row)


@pytest.mark.parametrize(
    ("tamper", "noticed_by"),
    [
        (edit_lines(lambda lines: lines[1:]), {"rows", "parquet"}),
        (edit_lines(lambda lines: [*lines, lines[0]]), {"rows", "parquet"}),
        (edit_lines(lambda lines: [lines[1], lines[0], *lines[2:]]), {"rows", "parquet"}),
        (edit_lines(lambda lines: [lines[0].replace(b"Add", b"Sub"), *lines[1:]]), {"rows", "parquet"}),
        (edit_table("selected.parquet", lambda table: table.slice(1)), {"parquet"}),
        (edit_table("selected.parquet", lambda table: pa.concat_tables([table, table.slice(0, 1)])), {"parquet"}),
        (edit_table("selected.parquet", swapped), {"parquet"}),
        (edit_table("selected.parquet", set_value("output", 4, "0")), {"parquet"}),
        (edit_table("selected.parquet", set_value("n", 4, '"0"')), {"parquet"}),
        (edit_table("ranking.parquet", lambda table: table.slice(0, 8)), {"rows", "trace", "evidence"}),
        (edit_table("ranking.parquet", swapped), {"rows", "trace"}),
        (edit_table("ranking.parquet", set_value("row_sha256", 2, "0" * 64)), {"rows"}),
        (edit_table("ranking.parquet", set_value("gain", 2, 9.0)), {"trace", "evidence"}),
        (edit_table("ranking.parquet", set_value("tokens", 2, 1)), {"trace", "evidence"}),
        (edit_table("ranking.parquet", lambda table: table.drop_columns(["epsilon"])), {"rows", "trace", "evidence"}),
        (edit_table("evidence.parquet", lambda table: table.filter(table["rank"].is_null())), {"evidence"}),
        (edit_table("evidence.parquet", lambda table: pa.concat_tables([table, one_more(table)])), {"evidence"}),
        (edit_table("trace.parquet", lambda table: table.slice(1)), {"trace"}),
        (edit_table("trace.parquet", set_value("utility", 8, 1.0)), {"trace"}),
    ],
)
def test_rows_changed_removed_added_or_reordered_are_noticed_even_when_every_digest_was_made_to_fit(
    folder: Path, tamper: Callable[[Path], None], noticed_by: set[str]
) -> None:
    tamper(folder)
    assert failed(folder) == noticed_by | {"digests", "provenance", "croissant"}
    seal(folder)
    assert failed(folder) == noticed_by


def test_a_provenance_that_names_other_files_is_noticed(folder: Path) -> None:
    path = folder / "provenance.intoto.jsonl"
    statement = json.loads(path.read_text())
    for change in (
        {"subject": statement["subject"][1:]},
        {"subject": [*statement["subject"], statement["subject"][0]]},
        {"predicateType": "https://example.org/other"},
        {"_type": "https://example.org/other"},
    ):
        path.write_text(json.dumps({**statement, **change}) + "\n")
        seal_sums_only(folder)
        assert failed(folder) == {"provenance"}, change


def test_a_croissant_record_that_names_other_files_is_noticed(folder: Path) -> None:
    path = folder / "croissant.json"
    described = json.loads(path.read_text())
    files = described["distribution"]
    for change in (files[1:], [*files, files[0]], [{**files[0], "sha256": "0" * 64}, *files[1:]]):
        path.write_text(json.dumps({**described, "distribution": change}))
        statement = json.loads((folder / "provenance.intoto.jsonl").read_text())
        for subject in statement["subject"]:
            subject["digest"]["sha256"] = hashlib.sha256((folder / subject["name"]).read_bytes()).hexdigest()
        (folder / "provenance.intoto.jsonl").write_text(json.dumps(statement) + "\n")
        seal_sums_only(folder)
        assert failed(folder) == {"croissant"}


def test_a_selection_by_windows_has_no_evidence_file_and_one_that_had_it_cannot_lose_it(folder: Path) -> None:
    (folder / "evidence.parquet").unlink()
    assert failed(folder) == {"digests", "provenance", "evidence", "croissant"}


def test_a_result_from_before_there_was_a_croissant_record_holds(folder: Path) -> None:
    (folder / "croissant.json").unlink()
    assert failed(folder) == {"digests", "provenance", "croissant"}, "its statement names it: it was taken away"
    statement = json.loads((folder / "provenance.intoto.jsonl").read_text())
    statement["subject"] = [subject for subject in statement["subject"] if subject["name"] != "croissant.json"]
    (folder / "provenance.intoto.jsonl").write_text(json.dumps(statement) + "\n")
    assert failed(folder) == {"digests"}
    sums = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(line for line in sums if "croissant" not in line))
    assert failed(folder) == {"digests"}, "the statement has other bytes than its digest says"
    seal_sums_only(folder, but={"croissant.json"})
    assert failed(folder) == set()
    (folder / "selected.jsonl").write_bytes((folder / "selected.jsonl").read_bytes() + b"\n")
    assert {"digests", "provenance"} <= failed(folder)


def seal_sums_only(folder: Path, but: Collection[str] = ()) -> None:
    names = [name for name in (*STATED, "provenance.intoto.jsonl") if name not in but]
    text = "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (folder / "SHA256SUMS").write_text(text)


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: [*lines[:10], lines[10].replace(b"Add", b"Sum"), *lines[11:]],
        lambda lines: lines[1:],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [*lines, lines[0]],
    ],
)
def test_another_source_is_noticed(
    made: MadeResult, folder: Path, tmp_path: Path, edit: Callable[[list[bytes]], list[bytes]]
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_bytes(b"".join(line + b"\n" for line in edit(made.source.read_bytes().splitlines())))
    assert failed(folder, other) == {"source", "source rows"}


def test_a_row_that_is_not_in_the_source_is_noticed_when_everything_else_was_made_to_fit(
    made: MadeResult, folder: Path
) -> None:
    path = folder / "selected.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1]
    lines[4] = lines[4].replace(b"Add", b"Sub")
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    for name, column, value in (
        ("ranking.parquet", "row_sha256", hashlib.sha256(lines[4]).hexdigest()),
        ("selected.parquet", "instruction", json.loads(lines[4])["instruction"]),
    ):
        edit_table(name, set_value(column, 4, value))(folder)
    seal(folder)
    assert failed(folder) == set(), "the folder alone is consistent again"
    assert failed(folder, made.source) == {"source rows"}


def test_a_parquet_source_is_compared_with_its_own_types(tmp_path: Path, seed: int) -> None:
    rows = 40
    table = pa.table(
        {
            "prompt": [f"Say {i}" for i in range(rows)],
            "completion": [f"{i}" for i in range(rows)],
            "when": pa.array(range(rows), pa.timestamp("ns")),
            "kind": pa.array(["a", "b"] * (rows // 2)).dictionary_encode(),
            "half": pa.array([i / 2 if i % 3 else float("nan") for i in range(rows)], pa.float32()),
            "raw": pa.array([bytes([i, 255]) for i in range(rows)]),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    made = make_result(tmp_path, sink.getvalue(), count=12, seed=seed, name="pool.parquet")
    assert failed(made.out, made.source) == set()
    edit_table("selected.parquet", set_value("raw", 3, b"other"))(made.out)
    seal(made.out)
    assert failed(made.out, made.source) == {"parquet"}


def test_a_folder_of_something_else_fails_every_check(tmp_path: Path) -> None:
    (tmp_path / "selected.parquet").write_text("no parquet")
    (tmp_path / "selected.jsonl").write_text("{")
    (tmp_path / "else.txt").write_text("")
    report = verify_folder(tmp_path)
    assert not any(check.ok for check in report.checks)
    with pytest.raises(VerificationError) as caught:
        report.raise_if_failed()
    assert len(caught.value.errors) == len(report.checks)


@pytest.mark.parametrize(
    ("stored", "written", "same"),
    [
        ({"a": 1, "b": None}, {"a": 1}, True),
        ({"a": [{"b": None, "c": 1.0}]}, {"a": [{"c": 1}]}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 0.0}, {"a": False}, False),
        ([1, None], [1], False),
        ({"a": None}, {"a": ""}, False),
        ("1", 1, False),
        ({}, [], False),
    ],
)
def test_only_absent_keys_and_whole_floats_count_as_the_same(stored: Any, written: Any, same: bool) -> None:
    assert same_values(stored, written) is same


def test_a_source_is_read_again_in_the_encoding_and_the_split_that_were_named(tmp_path: Path, seed: int) -> None:
    rows = [{"instruction": f"Wie heißt {n}?", "output": f"Größe {n} é"} for n in range(20)]
    plain = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    options = {"encoding": "cp866"}  # a detection would not say so
    named = make_result(tmp_path / "a", plain.encode("cp1252"), count=5, seed=seed, options=options)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("train.jsonl", plain)
        archive.writestr("test.jsonl", plain.replace("heißt", "hiess"))
    split = make_result(
        tmp_path / "b", packed.getvalue(), count=5, seed=seed, name="pool.zip", options={"split": "test"}
    )
    for made, option in ((named, ("encoding", "cp866")), (split, ("split", "test"))):
        stated = stated_dataset(made.out)["annotations"]
        assert option in stated.items()
        assert failed(made.out, made.source) == set()
