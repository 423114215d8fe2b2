"""The contract that is committed is the one that is served, and its examples are what it says they are."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.api import openapi
from app.errors import PROBLEMS
from app.main import contract_document
from tests.contracts.packages import ROOT

COMMITTED = ROOT / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def served() -> dict[str, Any]:
    return contract_document()


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_committed_contract_is_the_served_one(served: dict[str, Any]) -> None:
    now = json.dumps(served, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    committed = COMMITTED.read_text(encoding="utf-8") if COMMITTED.exists() else ""
    if now == committed:
        return
    changes = list(difflib.unified_diff(committed.splitlines(), now.splitlines(), "docs/openapi.json", "served", n=1))
    shown = "\n".join(changes[:60])
    pytest.fail(f"docs/openapi.json is not what the code serves: run `make openapi` and commit it.\n{shown}")


def test_an_operation_has_a_name_of_its_own_and_a_description(served: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(served)]
    assert sorted(names) == sorted(set(names))
    assert all(operation.get("description") for _, operation in operations(served))
    assert {tag for _, operation in operations(served) for tag in operation["tags"]} == set(openapi.TAGS)


def bodies(document: dict[str, Any]) -> dict[str, str]:
    """Schema of each JSON body that is sent or answered -> where."""
    found = {}
    for name, operation in operations(document):
        sides = [operation.get("requestBody", {}), *operation["responses"].values()]
        for side in sides:
            reference = side.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref")
            if reference is not None:
                found[reference.rpartition("/")[2]] = name
    return found


def test_every_body_has_an_example_that_holds(served: dict[str, Any]) -> None:
    missing = {
        name: where for name, where in bodies(served).items() if "examples" not in served["components"]["schemas"][name]
    }
    assert not missing, f"add an example of each to app/api/examples.json: {missing}"
    for name, component in served["components"]["schemas"].items():
        validator = Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": served["components"]})
        for example in component.get("examples", []):
            errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(example)]
            assert not errors, f"the example of {name} in app/api/examples.json does not hold: {errors}"
            if name in openapi.EXAMPLES and "properties" in component:
                unknown = set(example) - set(component["properties"])
                assert not unknown or component.get("additionalProperties"), (name, unknown)
    assert set(openapi.EXAMPLES) <= set(served["components"]["schemas"]), "an example of a body that is gone"


def test_every_error_that_is_named_is_a_problem_of_the_catalogue(served: dict[str, Any]) -> None:
    for name, operation in operations(served):
        assert "application/problem+json" in operation["responses"]["default"]["content"], name
        for status, response in operation["responses"].items():
            if status[0] in "45":
                code = response["$ref"].rpartition("/")[2]
                assert PROBLEMS[code].status == int(status), (name, status, code)
        if operation.get("security") != []:
            assert {"401", "403"} <= set(operation["responses"]), name
    for component in served["components"]["responses"].values():
        example = component["content"]["application/problem+json"]["example"]
        validator = Draft202012Validator(
            {"$ref": "#/components/schemas/ProblemRead", "components": served["components"]}
        )
        assert not list(validator.iter_errors(example))


def test_a_path_parameter_says_what_it_looks_like(served: dict[str, Any]) -> None:
    for name, operation in operations(served):
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path" and parameter["name"] != "slug":
                shape = parameter["schema"]
                if shape["type"] == "integer":
                    assert all(shape["minimum"] <= example <= shape["maximum"] for example in shape["examples"]), name
                else:
                    assert all(re.search(shape["pattern"], example) for example in shape["examples"]), name


def test_generators_of_clients_can_read_every_schema(served: dict[str, Any]) -> None:
    """They cannot write an object as a default value, nor an array of nothing, and leave the operation out."""

    def schemas(node: Any) -> Iterator[dict[str, Any]]:
        for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from schemas(part)
        if isinstance(node, dict) and "type" in node:
            yield node

    contract = {name: part for name, part in served.items() if name != "info"}
    found = list(schemas(contract))
    assert not [schema for schema in found if isinstance(schema.get("default"), dict)]
    assert not [schema for schema in found if schema["type"] == "array" and "items" not in schema]
