"""``croissant.json`` read by the reference implementation: valid, and the records it loads are the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rdflib import Graph, Namespace, URIRef

from tests.fixtures.results import MadeResult, alpaca, jsonl, make_result

# What rdflib and mlcroissant do among themselves.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:rdflib"),
    pytest.mark.filterwarnings("ignore:The inplace keyword"),
]
PROV = Namespace("http://www.w3.org/ns/prov#")


def load(path: Path) -> Any:
    import mlcroissant

    dataset = mlcroissant.Dataset(jsonld=str(path))
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    assert not issues.warnings
    return dataset


def records(dataset: Any, name: str) -> list[dict[str, Any]]:
    """Records with the name of the record set taken off their fields."""
    prefix = f"{name}/"
    return [
        {key.removeprefix(prefix): value for key, value in record.items()}
        for record in dataset.records(record_set=name)
    ]


def text(value: Any) -> Any:
    """Text as text: mlcroissant gives bytes."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [text(item) for item in value]
    if isinstance(value, dict):
        return {key.rpartition("/")[2]: text(item) for key, item in value.items()}
    return value


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeResult:
    return make_result(tmp_path_factory.mktemp("croissant"), jsonl(alpaca(60)), count=12, seed=5)


def test_the_reference_implementation_loads_the_rows_and_the_ranking(made: MadeResult) -> None:
    dataset = load(made.out / "croissant.json")
    assert [text(record) for record in records(dataset, "rows")] == [json.loads(line) for line in made.lines()]
    ranking = pq.read_table(made.out / "ranking.parquet").to_pylist()
    assert [text(record) for record in records(dataset, "ranking")] == ranking
    assert str(dataset.metadata.ctx.conforms_to.value) == "http://mlcommons.org/croissant/1.1"


def test_conversations_and_odd_columns_are_loaded_too(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {
            "messages": [{"role": "user", "content": f"What is {i}?"}, {"role": "assistant", "content": str(i)}],
            "tags": ["a", str(i)],
            "score of 1/2 ü": i / 2,
            "about": {"source": "made", "n": i},
            "deep": {"more": {"n": i}},
            "ok": i % 2 == 0,
        }
        for i in range(20)
    ]
    made = make_result(tmp_path, jsonl(rows), count=5, seed=1)
    loaded = records(load(made.out / "croissant.json"), "rows")
    assert len(loaded) == 5
    for record, line in zip(loaded, made.lines(), strict=True):
        # What Croissant has no words for (an object in an object) is left out, everything else is as it was.
        expected = {
            key.replace("score of 1/2 ü", "score%20of%201%2F2%20%C3%BC"): v for key, v in json.loads(line).items()
        }
        del expected["deep"]
        assert text(record) == expected


def test_the_statements_of_prov_and_responsible_ai_are_in_the_graph(made: MadeResult) -> None:
    described = json.loads((made.out / "croissant.json").read_text(encoding="utf-8"))
    graph = Graph().parse(data=json.dumps(described), format="json-ld")
    dataset, facts = URIRef(made.facts.dataset.uri), made.facts
    ((result, _, _),) = graph.triples((None, PROV.wasGeneratedBy, None))
    assert dataset in set(graph.objects(result, PROV.wasDerivedFrom))
    (activity,) = graph.objects(result, PROV.wasGeneratedBy)
    assert str(activity) == "spice:job/job_test"
    assert dataset in set(graph.objects(activity, PROV.used))
    assert [str(time) for time in graph.objects(activity, PROV.startedAtTime)] == ["2026-01-31T12:00:00.000Z"]
    assert [str(time) for time in graph.objects(activity, PROV.endedAtTime)] == ["2026-01-31T12:00:01.000Z"]
    (agent,) = graph.objects(result, PROV.wasAttributedTo)
    assert str(graph.value(agent, PROV.label)).startswith("spice-select ")
    digests = {str(digest) for digest in graph.objects(dataset, URIRef("https://schema.org/sha256"))}
    assert digests == {facts.dataset.sha256}
    for name in ("ManipulationProtocol", "PreprocessingProtocol", "Limitations", "Biases", "UseCases"):
        assert set(graph.objects(result, URIRef(f"http://mlcommons.org/croissant/RAI/data{name}"))), name


def test_a_changed_file_is_not_loaded(made: MadeResult, tmp_path: Path) -> None:
    for path in made.out.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    other = pq.read_table(made.out / "ranking.parquet").slice(1)
    pq.write_table(pa.concat_tables([other]), tmp_path / "ranking.parquet")
    dataset = load(tmp_path / "croissant.json")
    with pytest.raises(Exception, match=r"Download\(ranking\.parquet\)"):
        records(dataset, "ranking")
