"""The files of a result: the right rows, their bytes as they came, numbers that agree with each other."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import DatasetCard, DatasetCardData

from spice_select.results.json_columns import Columns, is_json_text, to_table
from spice_select.results.result_folder import DATED, MEDIA_TYPES
from spice_select.results.selected_rows import SelectedRows
from spice_select.results.trainers import write_conversations
from tests.conftest import SEED
from tests.fixtures.results import MadeResult, alpaca, jsonl, make_result, write_again


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeResult:
    # More than two shards of the intake, some rows that cannot be used, some candidates left out.
    records: list[Any] = alpaca(2300)
    records[5] = {"instruction": "", "input": "", "output": "x"}
    records[1500] = "no object"
    folder = tmp_path_factory.mktemp("result")
    return make_result(folder, jsonl(records), count=140, seed=SEED, excluded=frozenset({0, 7, 1100}))


def test_the_lines_are_the_rows_of_the_source_in_pick_order(made: MadeResult) -> None:
    source = [json.loads(line) for line in made.source.read_bytes().splitlines()]
    usable = [i for i, row in enumerate(source) if isinstance(row, dict) and row["instruction"]]
    expected = [usable[made.positions[index]] for index in made.selection.indices]
    compact = [json.dumps(source[i], ensure_ascii=False, separators=(",", ":")).encode() for i in expected]
    assert made.lines() == compact
    assert len({*expected}) == 140


def test_the_ranking_holds_the_evidence_of_each_pick(made: MadeResult) -> None:
    ranking = pq.read_table(made.out / "ranking.parquet").to_pydict()
    assert ranking["rank"] == list(range(1, 141))
    assert ranking["row_sha256"] == [hashlib.sha256(line).hexdigest() for line in made.lines()]
    for column, expected in (
        ("gain", made.selection.gains),
        ("base_gain", made.selection.base_gains),
        ("epsilon", made.selection.epsilons),
        ("conflict", made.selection.conflicts),
        ("score", made.selection.scores),
    ):
        assert ranking[column] == expected, column
    assert ranking["tokens"] == [made.tokens[index] for index in made.selection.indices]
    records = [json.loads(line) for line in made.source.read_bytes().splitlines()]
    assert [records[row] for row in ranking["source_row"]] == [json.loads(line) for line in made.lines()]


def test_the_database_gets_the_same_ranking_as_the_file(made: MadeResult, tmp_path: Path) -> None:
    written = write_again(made, tmp_path / "again")
    table = pq.read_table(tmp_path / "again" / "ranking.parquet").to_pylist()
    assert [row.model_dump() for row in written.ranking] == table


def test_the_trace_is_the_running_sum(made: MadeResult) -> None:
    trace = pq.read_table(made.out / "trace.parquet").to_pydict()
    tokens = [made.tokens[index] for index in made.selection.indices]
    assert trace["tokens"][-1] == sum(tokens)
    assert trace["tokens"][0] == tokens[0]
    assert trace["utility"][-1] == pytest.approx(made.selection.utility, rel=1e-9)
    assert all(later > earlier for earlier, later in zip(trace["utility"], trace["utility"][1:], strict=False))


def test_equal_input_gives_equal_bytes_and_times_are_only_in_dated_files(made: MadeResult, tmp_path: Path) -> None:
    later = write_again(
        made, tmp_path / "later", started_on=datetime(2027, 1, 1, tzinfo=UTC), invocation_id="job_other"
    )
    first = {name: (made.out / name).read_bytes() for name in MEDIA_TYPES}
    second = {file.name: (tmp_path / "later" / file.name).read_bytes() for file in later.files}
    assert {name for name in first if first[name] != second[name]} == DATED


def test_coreutils_agrees_with_the_digests(made: MadeResult) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=made.out, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == len(MEDIA_TYPES) - 1
    assert sorted(path.name for path in made.out.iterdir()) == sorted(MEDIA_TYPES)


def test_every_file_is_described_with_its_size_and_digest(made: MadeResult, tmp_path: Path) -> None:
    for file in write_again(made, tmp_path / "again").files:
        content = (tmp_path / "again" / file.name).read_bytes()
        assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert file.media_type == MEDIA_TYPES[file.name]


def test_parquet_sources_keep_their_types_values_and_metadata(tmp_path: Path, seed: int) -> None:
    count = 1500
    when = pa.array([datetime(2020, 1, 1 + i % 28, tzinfo=UTC) for i in range(count)], pa.timestamp("us", "UTC"))
    # Each row group brings another dictionary.
    table = pa.table(
        {
            "prompt": pa.array([f"Say {i}" for i in range(count)], pa.large_string()),
            "completion": [f"{i}" for i in range(count)],
            "when": when,
            "kind": pa.array([f"kind {i // 400}" for i in range(count)]).dictionary_encode(),
            "scores": pa.array([[i * 0.5, None] for i in range(count)], pa.list_(pa.float32())),
            "level": pa.array([i % 5 for i in range(count)], pa.int8()),
            "raw": pa.array([bytes([i % 256]) for i in range(count)], pa.binary()),
        }
    ).replace_schema_metadata({"origin": "a test"})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=400)
    made = make_result(tmp_path, sink.getvalue(), count=60, seed=seed, name="pool.parquet")
    selected = pq.read_table(made.out / "selected.parquet")
    wanted = table.take([made.positions[index] for index in made.selection.indices])
    assert selected.schema.equals(pq.read_schema(made.source), check_metadata=True)
    assert selected.schema.field("kind").type == table.schema.field("kind").type
    assert selected.to_pydict() == wanted.to_pydict()


def test_json_columns_are_the_union_of_the_keys_in_the_order_first_seen(tmp_path: Path, seed: int) -> None:
    records = [
        {"text": f"row {i}", **({"b": i} if i % 2 else {"c": {"deep": [i]}}), **({"d": True} if i == 39 else {})}
        for i in range(40)
    ]
    made = make_result(tmp_path, jsonl(records), count=40, seed=seed)
    table = pq.read_table(made.out / "selected.parquet")
    seen = dict.fromkeys(key for line in made.lines() for key in json.loads(line))
    assert table.schema.names == list(seen)
    for row, line in zip(table.to_pylist(), made.lines(), strict=True):
        assert {key: value for key, value in row.items() if value is not None} == json.loads(line)


def test_a_column_of_mixed_types_is_json_text_and_named_in_the_card(tmp_path: Path, seed: int) -> None:
    records = [{"text": f"row {i}", "id": i if i % 2 else f"n{i}", "flag": 1.5 if i % 2 else True} for i in range(30)]
    made = make_result(tmp_path, jsonl(records), count=30, seed=seed)
    table = pq.read_table(made.out / "selected.parquet")
    assert table.schema.field("id").type == table.schema.field("flag").type == pa.string()
    for row, line in zip(table.to_pylist(), made.lines(), strict=True):
        assert {"text": row["text"], "id": json.loads(row["id"]), "flag": json.loads(row["flag"])} == json.loads(line)
    card = (made.out / "README.md").read_text()
    assert "these columns hold JSON text" in card
    assert "`id`, `flag`" in card


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, False, None], pa.bool_()),
        ([1, 2**62], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([2**53, 0.5], pa.float64()),
        ([2**53 + 1, 0.5], None),
        ([1.5, True], None),
        ([1, True], None),
        ([2**63], None),
        (["a", 1], None),
        ([{}], None),
        ([{}, {"a": 1}], None),
        ([{"a": 1}, {"b": "x"}], None),
        ([{"a": 1, "b": None}, {"b": "x", "a": None}], pa.struct([("a", pa.int64()), ("b", pa.string())])),
        ([{"a": 1}, {"a": "x"}], None),
        ([[1], ["a"]], None),
        ([[], [{"k": [1.0]}], [{"k": [2]}]], pa.list_(pa.struct([("k", pa.list_(pa.float64()))]))),
        ([[], "a"], None),
        ([None, None], pa.null()),
        ([{str(i): 1} for i in range(300)], None),
        ([{"a": {}}], None),
    ],
)
def test_a_column_gets_a_type_that_changes_no_value(values: list[Any], kind: pa.DataType | None) -> None:
    columns = Columns()
    for value in values:
        columns.observe({"x": value})
    schema = columns.schema()
    field = schema.field("x")
    assert is_json_text(field) == (kind is None)
    assert field.type == (kind or pa.string())
    sink = io.BytesIO()
    pq.write_table(to_table([{"x": value} for value in values], schema), sink)
    stored = pq.read_table(io.BytesIO(sink.getvalue())).column("x").to_pylist()
    if kind is None:
        assert [None if text is None else json.loads(text) for text in stored] == values


def test_the_card_has_a_header_that_datasets_reads(made: MadeResult) -> None:
    card = (made.out / "README.md").read_text()
    assert card.startswith("---\n")
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "selected.parquet"}]}
    ]
    assert header["size_categories"] == ["n<1K"]
    assert "| rows | 2295 | 140 | 6.1 % |" in card


def test_the_hub_reads_the_card(made: MadeResult) -> None:
    card = DatasetCard.load(made.out / "README.md")
    said = card.data.to_dict()
    assert said["size_categories"] == ["n<1K"]
    assert said["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "selected.parquet"}]}
    ]
    # What the hub refuses to publish is an unknown category, a field of another type, or no header at all.
    assert set(said) == {"pretty_name", "tags", "size_categories", "configs"}
    assert DatasetCardData(**said).to_yaml()


def test_a_hostile_name_breaks_neither_the_card_nor_the_trainers(tmp_path: Path, seed: int) -> None:
    name = 'a `|` "b": <x>, y.jsonl'
    made = make_result(tmp_path, jsonl(alpaca(20)), count=3, seed=seed, name=name)
    header = yaml.safe_load((made.out / "README.md").read_text().split("---\n")[1])
    assert header["pretty_name"] == f"{name}, 3 rows chosen with spice"
    assert list(json.loads((made.out / "dataset_info.json").read_text())) == ["spice_a_b_x_y"]


CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("record", "options", "expected"),
    [
        (
            {"instruction": "a", "input": "", "output": "b", "system": "s"},
            {},
            {
                "formatting": "alpaca",
                "columns": {"prompt": "instruction", "query": "input", "response": "output", "system": "system"},
            },
        ),
        (
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
            {},
            {
                "formatting": "sharegpt",
                "columns": {"messages": "conversations"},
                "tags": {
                    "role_tag": "from",
                    "content_tag": "value",
                    "user_tag": "human",
                    "assistant_tag": "gpt",
                    "observation_tag": "tool",
                    "function_tag": "function_call",
                    "system_tag": "system",
                },
            },
        ),
        (
            {"messages": [*CHAT, {"role": "assistant", "content": "Ho"}]},
            {},
            {
                "formatting": "sharegpt",
                "columns": {"messages": "messages"},
                "tags": {
                    "role_tag": "role",
                    "content_tag": "content",
                    "user_tag": "user",
                    "assistant_tag": "assistant",
                    "observation_tag": "tool",
                    "function_tag": "function_call",
                    "system_tag": "system",
                },
            },
        ),
        (
            {"prompt": "a", "completion": "b"},
            {},
            {"formatting": "alpaca", "columns": {"prompt": "prompt", "response": "completion"}},
        ),
        (
            {"q": "a", "a": "b"},
            {"columns": {"prompt": "q", "response": "a"}},
            {"formatting": "alpaca", "columns": {"prompt": "q", "response": "a"}},
        ),
        ({"text": "a b"}, {}, {"formatting": "alpaca", "columns": {"prompt": "text"}}),
        (
            {"prompt": "a", "response": "b", "rejected": "c"},
            {},
            {
                "ranking": True,
                "formatting": "alpaca",
                "columns": {"prompt": "prompt", "rejected": "rejected", "chosen": "response"},
            },
        ),
    ],
)
def test_llamafactory_gets_the_formatting_of_the_record_form(
    tmp_path: Path, seed: int, record: dict[str, Any], options: dict[str, Any], expected: dict[str, Any]
) -> None:
    rows = [{**record, "n": i} for i in range(6)]
    made = make_result(tmp_path, jsonl(rows), count=3, seed=seed, options=options)
    entry = json.loads((made.out / "dataset_info.json").read_text())["spice_pool"]
    assert entry == {"file_name": "selected.jsonl", **expected}


ANSWERED = [*CHAT, {"role": "assistant", "content": "Ho"}]
WORSE = {"role": "assistant", "content": "Bah"}


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": CHAT, "completion": ANSWERED[-1:]},
        {"messages": ANSWERED, "rejected_response": "Bah"},
        {"messages": ANSWERED, "rejected_messages": [*CHAT, WORSE]},
        {"messages": CHAT, "chosen": "Ho", "rejected": "Bah"},
        {"prompt": "Hi", "chosen": ANSWERED[-1], "rejected": WORSE},
        {"chosen": ANSWERED, "rejected": [*CHAT, WORSE]},
    ],
)
def test_records_that_llamafactory_cannot_read_get_no_entry(tmp_path: Path, seed: int, record: dict[str, Any]) -> None:
    made = make_result(tmp_path, jsonl([record] * 5), count=2, seed=seed)
    assert json.loads((made.out / "dataset_info.json").read_text()) == {}
    assert "`dataset_info.json` is empty" in (made.out / "README.md").read_text()


@pytest.mark.parametrize("worse", [{"rejected_response": "Bah"}, {"rejected_messages": [*CHAT, WORSE]}])
def test_turns_with_a_rejected_answer_beside_them_are_pairs_for_every_trainer(
    tmp_path: Path, seed: int, worse: dict[str, Any]
) -> None:
    made = make_result(tmp_path, jsonl([{"messages": ANSWERED, **worse}] * 5), count=2, seed=seed)
    pair = {"prompt": CHAT, "chosen": ANSWERED[-1:], "rejected": [WORSE]}
    whole = {"messages": ANSWERED, "rejected_messages": [*CHAT, WORSE]}
    about = made.facts.dataset
    for trainer, expected in (("trl", pair), ("axolotl", pair), ("swift", whole)):
        write_conversations(
            made.out / "selected.jsonl", tmp_path / "train.jsonl", about.form, about.columns, trainer=trainer
        )  # type: ignore[arg-type]
        assert [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()] == [expected] * 2


def test_a_selection_stopped_before_its_first_pick_is_written_too(tmp_path: Path, seed: int) -> None:
    made = make_result(tmp_path, jsonl(alpaca(30)), count=5, seed=seed, stop_after=0)
    assert made.selection.partial
    assert made.lines() == []
    for name in ("selected.parquet", "ranking.parquet", "trace.parquet"):
        assert pq.read_table(made.out / name).num_rows == 0


def test_gzipped_csv_goes_the_same_way(tmp_path: Path, seed: int) -> None:
    text = "question,answer\n" + "".join(f'"What, {i}?","It is ""{i}"""\n' for i in range(50))
    made = make_result(tmp_path, gzip.compress(text.encode()), count=50, seed=seed, name="pool.csv.gz")
    found = {json.loads(line)["question"] for line in made.lines()}
    assert found == {f"What, {i}?" for i in range(50)}
    assert pq.read_table(made.out / "selected.parquet").schema.names == ["question", "answer"]


def test_chosen_rows_come_in_pick_order_over_any_shards(tmp_path: Path, seed: int) -> None:
    import numpy as np

    generator = np.random.default_rng(seed)
    sizes, start, shards = [3, 0, 5000, 1, 77], 0, []
    for number, size in enumerate(sizes):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"x": pa.array(range(start, start + size), pa.int64())}), path, row_group_size=100)
        start += size
        shards.append(path)
    picks = generator.permutation(start)[:4321].tolist()
    with SelectedRows(shards, picks, tmp_path / "scratch") as rows:
        for _ in range(2):
            assert [x for chunk in rows.chunks() for x in chunk.column("x").to_pylist()] == picks
    assert not (tmp_path / "scratch").exists()
    with pytest.raises(IndexError, match="hold 5081 rows"):
        SelectedRows(shards, [5081], tmp_path / "scratch")
