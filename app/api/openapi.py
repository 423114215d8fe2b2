"""The contract (OpenAPI 3.1): what FastAPI reads off the routes, with errors, headers and examples it cannot see."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.problems import MEDIA_TYPE, MERGE_PATCH
from app.api.schemas.datasets import DatasetCreate
from app.errors import PROBLEMS

EXAMPLES: dict[str, Any] = json.loads(Path(__file__).with_name("examples.json").read_text(encoding="utf-8"))
"""An example of each body, by the name of its schema; a test holds them against the schemas."""
OPEN_TAG = "service"
"""Routes with this tag ask for no key."""
TAGS = {
    "data sets": "What is chosen from: sent once, validated row by row, never changed.",
    "jobs": "One choice each: queued, followed, fetched with the evidence for every pick.",
    "schedules": "Jobs that are made at set times, each on the newest version of a pool that grows.",
    "evaluations": "Whether what a job chose trains better than rows drawn at random, with intervals and a verdict.",
    "events": "One append-only log, as pages or as a stream.",
    "webhooks": "Addresses of yours that are told of events, signed as Standard Webhooks 1.0 says.",
    "gradient sets": "What was measured about the samples; jobs on the same rows, model and settings share it.",
    "API keys": "Who may call, for callers with the scope `admin`.",
    OPEN_TAG: "Health, versions, the pages behind problem types, and signed links.",
}
_TAG = {"description": "What `If-None-Match` and `If-Match` name.", "required": True, "schema": {"type": "string"}}
CONDITIONAL: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"ETag": _TAG}},
    304: {"description": "`If-None-Match` names what would be sent: nothing is sent again."},
}
"""Answers of routes that send an ETag."""
PROBLEM = {"$ref": "#/components/schemas/ProblemRead"}


def openapi(app: FastAPI) -> dict[str, Any]:
    """The contract of an application, made once."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            summary="Choose the part of an instruction-tuning data set that is worth training on",
            description=app.description,
            routes=app.routes,
            openapi_version="3.1.0",
            license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
            tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        )
        components = schema["components"]["schemas"]
        for unused in ("HTTPValidationError", "ValidationError"):
            components.pop(unused, None)
        # Read by hand, because the same route takes files: FastAPI does not see it.
        written = DatasetCreate.model_json_schema(ref_template="#/components/schemas/{model}")
        components |= written.pop("$defs", {}) | {"DatasetCreate": written}
        for name, component in components.items():
            _describe_object_defaults(component)
            example = example_of(name)
            if example is not None:
                component.setdefault("examples", [example])
        for operations in schema["paths"].values():
            # HEAD is wherever GET is; listed twice it would only be noise.
            operations.pop("head", None)
            for method, operation in operations.items():
                _complete(operation)
                if method == "patch":
                    content = operation["requestBody"]["content"]
                    content[MERGE_PATCH] = content["application/json"]
        schema["components"]["responses"] = {
            code: {
                "description": PROBLEMS[code].meaning,
                "content": {MEDIA_TYPE: {"schema": PROBLEM, "example": problem_example(code)}},
            }
            for code in _codes(schema)
        }
        schema["components"]["securitySchemes"] = {
            "key": {"type": "http", "scheme": "bearer", "description": "An API key, `spk_...`."},
            "password": {"type": "http", "scheme": "basic", "description": "Any user name, the API key as password."},
        }
        schema["security"] = [{"key": []}, {"password": []}, {}]
        app.openapi_schema = schema
    return app.openapi_schema


def _describe_object_defaults(component: dict[str, Any]) -> None:
    """Say in words what a property is when it is left out, where that is an object.

    Generators of clients cannot write an object as a default value and leave out every operation that has one.
    """
    for field in component.get("properties", {}).values():
        if isinstance(field.get("default"), dict):
            default = json.dumps(field.pop("default"), sort_keys=True)
            field["description"] = f"{field.get('description', '')}\n\nWhen left out: `{default}`.".strip()


def example_of(component: str) -> Any | None:
    """The example of a schema, that of a page made from the example of its entries; None without one."""
    entry = re.fullmatch(r"Page_(\w+)_", component)
    if entry is None:
        return EXAMPLES.get(component)
    inner = EXAMPLES.get(entry[1])
    return None if inner is None else {"data": [inner], "has_more": False, "next_cursor": None}


def problem_example(code: str) -> dict[str, Any]:
    """A problem of this code, as it is sent."""
    problem = PROBLEMS[code]
    return {
        "type": f"https://select.example.org/problems/{code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.meaning,
        "instance": "/v1/jobs",
        "code": code,
        "request_id": "req_01K9RZ3V5X8N3Q2J6T4W7Y0ABC",
        "retryable": problem.retryable,
        "errors": [],
    }


def _complete(operation: dict[str, Any]) -> None:
    responses: dict[str, Any] = operation["responses"]
    responses.pop("422", None)
    responses["default"]["content"] = {MEDIA_TYPE: {"schema": PROBLEM}}
    needs_key = OPEN_TAG not in operation.get("tags", ())
    parameters = operation.get("parameters", [])
    codes = []
    if needs_key:
        codes += ["unauthenticated", "forbidden"]
    else:
        operation["security"] = []
    if any(parameter["in"] == "path" for parameter in parameters):
        codes.append("not-found")
    if parameters or "requestBody" in operation:
        codes.append("validation-error")
    if "requestBody" in operation:
        codes += ["malformed-request", "payload-too-large", "unsupported-media-type"]
    for code in codes:
        responses.setdefault(str(PROBLEMS[code].status), {"$ref": f"#/components/responses/{code}"})
    for status, response in responses.items():
        if status.startswith("2"):
            if response.get("description") == "Successful Response":
                response["description"] = operation.get("description", "").partition("\n")[0] or operation["summary"]
            headers = _headers(status, response)
            if headers:
                response["headers"] = headers | response.get("headers", {})
    operation["responses"] = dict(sorted(responses.items()))


def _headers(status: str, response: Mapping[str, Any]) -> dict[str, Any]:
    if status == "202":
        location = {"description": "Where to ask how it goes.", "required": True, "schema": {"type": "string"}}
        pause = {"description": "Seconds to wait before asking.", "required": True, "schema": {"type": "integer"}}
        return {"Location": location, "Retry-After": pause}
    content = response.get("content", {}).get("application/json", {})
    if content.get("schema", {}).get("$ref", "").startswith("#/components/schemas/Page_"):
        return {"Link": {"description": 'The next page, `rel="next"`, if there is one.', "schema": {"type": "string"}}}
    return {}


def _codes(schema: Mapping[str, Any]) -> list[str]:
    codes = {
        response["$ref"].rpartition("/")[2]
        for operations in schema["paths"].values()
        for operation in operations.values()
        for response in operation["responses"].values()
        if "$ref" in response
    }
    return sorted(codes)
