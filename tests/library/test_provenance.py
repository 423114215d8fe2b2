"""The provenance statement says what was done, in the words of in-toto and SLSA."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict, ParseError
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from spice_select.config import Budget, ProxyConfig, RunConfig, SelectionConfig
from spice_select.results.provenance import BUILD_TYPE, build_statement, rfc3339, statement_line
from spice_select.results.run_metadata import (
    DatasetFacts,
    ProxyFacts,
    ResultFile,
    RunFacts,
    find_code_commit,
    library_versions,
)
from spice_select.version import GRADIENT_FORMAT, __version__

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = [ResultFile("selected.jsonl", "application/jsonl", 10, "1" * 64), ResultFile("x", "text/plain", 1, "2" * 64)]
FACTS = RunFacts(
    dataset=DatasetFacts("pool", "spice:dataset/ds_1", "3" * 64, 99, "4" * 64, 12, 10, "jsonl", "text", {"text": "t"}),
    proxy=ProxyFacts("builtin:tiny", "1", "5" * 64, "6" * 64),
    config=RunConfig(selection=SelectionConfig(budget=Budget(fraction=0.1), seed=7)),
    gradient_fingerprint="7" * 64,
    gradients_reused=True,
    halvings=2,
    device="cpu",
    invocation_id="job_1",
    started_on=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    finished_on=datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC),
    builder="service",
    code_commit=COMMIT,
)


def dependency(statement: dict[str, Any], name: str) -> dict[str, Any]:
    found = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    return next(item for item in found if item["name"] == name)


def test_the_statement_has_the_form_of_in_toto_and_slsa() -> None:
    statement = build_statement(FILES, FACTS)
    assert list(statement) == ["_type", "subject", "predicateType", "predicate"]
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [
        {"name": "selected.jsonl", "digest": {"sha256": "1" * 64}},
        {"name": "x", "digest": {"sha256": "2" * 64}},
    ]
    definition, details = statement["predicate"]["buildDefinition"], statement["predicate"]["runDetails"]
    assert set(definition) == {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"}
    assert details == {
        "builder": {
            "id": "https://github.com/spice-select/spice-select/builders/service/v1",
            "version": {"spice-select": __version__},
        },
        "metadata": {
            "invocationId": "job_1",
            "startedOn": "2026-01-02T03:04:05.678Z",
            "finishedOn": "2026-01-02T03:04:06.000Z",
        },
    }
    # A resource descriptor needs a name, a URI, a digest or content; ours have the first three.
    for item in definition["resolvedDependencies"]:
        assert re.match(r"[a-z]+:", item["uri"])
        assert all(re.fullmatch(r"[0-9a-f]{40,64}", digest) for digest in item["digest"].values())


def test_the_published_types_of_in_toto_and_slsa_read_it() -> None:
    # Unknown or misspelt fields, wrong types and bad times are refused by the protobuf definitions.
    statement = json.loads(statement_line(build_statement(FILES, FACTS)))
    parsed = Statement.copy_from_pb(ParseDict(statement, StatementMessage()))
    parsed.validate()
    predicate = ParseDict(statement["predicate"], Provenance())
    for item in predicate.build_definition.resolved_dependencies:
        ResourceDescriptor.copy_from_pb(item).validate()
    assert predicate.run_details.metadata.started_on.ToJsonString() == "2026-01-02T03:04:05.678Z"
    with pytest.raises(ParseError, match="no field named"):
        ParseDict({**statement, "subjects": []}, StatementMessage())


def test_every_decision_and_every_input_is_named() -> None:
    definition = build_statement(FILES, FACTS)["predicate"]["buildDefinition"]
    assert RunConfig.model_validate(definition["externalParameters"]["config"]) == FACTS.config
    assert definition["externalParameters"]["budget"] == {"fraction": 0.1}
    internal = definition["internalParameters"]
    assert (internal["seed"], internal["gradientFormat"], internal["batchHalvings"]) == (7, GRADIENT_FORMAT, 2)
    assert internal["gradientFingerprint"] == "7" * 64
    assert internal["libraries"]["torch"] == version("torch")
    statement = build_statement(FILES, FACTS)
    data = dependency(statement, "dataset")
    assert (data["digest"], data["annotations"]["rows_digest"]) == ({"sha256": "3" * 64}, {"sha256": "4" * 64})
    assert (data["annotations"]["num_rows"], data["annotations"]["num_usable"]) == (12, 10)
    assert dependency(statement, "proxy-model")["digest"] == {"sha256": "5" * 64}
    assert dependency(statement, "tokenizer")["digest"] == {"sha256": "6" * 64}
    assert dependency(statement, "code")["digest"] == {"gitCommit": COMMIT}


def test_a_hub_model_is_named_by_its_commit() -> None:
    config = FACTS.config.model_copy(update={"proxy": ProxyConfig(model="org/name", revision=COMMIT)})
    facts = replace(FACTS, config=config, proxy=ProxyFacts("org/name", COMMIT, "5" * 64, "6" * 64))
    model = dependency(build_statement(FILES, facts), "proxy-model")
    assert model["uri"] == f"https://huggingface.co/org/name/tree/{COMMIT}"
    assert model["digest"] == {"sha256": "5" * 64, "gitCommit": COMMIT}


def test_unknown_code_has_no_digest() -> None:
    assert "digest" not in dependency(build_statement(FILES, replace(FACTS, code_commit=None)), "code")


def test_the_line_is_one_line_of_json() -> None:
    facts = replace(FACTS, dataset=replace(FACTS.dataset, name="two\nlines \u2028 ✓"))
    line = statement_line(build_statement(FILES, facts))
    assert line.count("\n") == 1
    assert line.endswith("}\n")
    assert json.loads(line) == build_statement(FILES, facts)


def test_times_are_in_utc_and_never_without_a_zone() -> None:
    assert rfc3339(datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))) == "2025-12-31T23:00:00.000Z"
    with pytest.raises(ValueError, match="time zone"):
        rfc3339(datetime(2026, 1, 1))


def test_the_commit_is_that_of_the_checkout_or_the_one_given(monkeypatch: pytest.MonkeyPatch) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    assert find_code_commit() == (head.stdout.strip() if head.returncode == 0 else None)
    monkeypatch.setenv("SPICE_CODE_COMMIT", COMMIT)
    assert find_code_commit() == COMMIT


def test_versions_are_those_that_are_installed() -> None:
    assert library_versions()["numpy"] == version("numpy")


def test_the_build_type_has_its_page() -> None:
    page = (ROOT / "docs" / "provenance.md").read_text(encoding="utf-8")
    assert BUILD_TYPE in page
    definition = build_statement(FILES, FACTS)["predicate"]["buildDefinition"]
    for group in ("externalParameters", "internalParameters"):
        for field in definition[group]:
            assert f"`{field}`" in page, f"{group}.{field} is not explained"
    for item in definition["resolvedDependencies"]:
        assert f"`{item['name']}`" in page
