"""Errors as ``application/problem+json`` (RFC 9457), whatever raised them."""

from __future__ import annotations

import http
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from app.api.pattern_messages import in_words
from app.errors import PROBLEMS, ServiceError, storage_is_full
from app.ids import new_id
from app.logs import get_logger
from spice_select.errors import SpiceError

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 20
MOST_DETAIL = 1000
MOST_POINTER = 500
"""Characters: an answer must not become long because a request was."""
CODE_BY_STATUS = {
    400: "malformed-request",
    404: "not-found",
    405: "method-not-allowed",
    413: "payload-too-large",
    415: "unsupported-media-type",
    422: "validation-error",
    503: "unavailable",
}


MERGE_PATCH = "application/merge-patch+json"
ACCEPT_PATCH = {"Accept-Patch": f"{MERGE_PATCH}, application/json"}
"""How changes may be sent (RFC 7396): what is left out stays, null takes away."""


class BodyError(HTTPException):
    """A body that cannot be read; an HTTPException so that the framework lets it through unchanged."""

    def __init__(self, code: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(PROBLEMS[code].status, detail, headers)
        self.code = code


def base_url(request: Request) -> str:
    """Base of absolute links: the configured public address, or the one the request came to."""
    public: str = request.app.state.services.settings.public_url
    return public.rstrip("/") or str(request.base_url).rstrip("/")


def request_id(request: Request) -> str:
    """Id of the request, made by the outermost middleware."""
    identity = request.scope.get("spice.request_id")
    return identity if isinstance(identity, str) else new_id("req")


def problem_response(
    request: Request,
    code: str,
    detail: str,
    *,
    status: int | None = None,
    errors: Sequence[dict[str, Any]] = (),
    headers: dict[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> Response:
    """Render one problem."""
    problem = PROBLEMS.get(code, PROBLEMS["internal"])
    status = status or problem.status
    identity = request_id(request)
    body = {
        "type": f"{base_url(request)}/problems/{code}",
        "title": problem.title,
        "status": status,
        "detail": _short(detail),
        "instance": request.url.path[:500],
        "code": code,
        "request_id": identity,
        "retryable": problem.retryable,
        "errors": [_short_error(error) for error in errors[:MAX_ERRORS]],
        **(members or {}),
    }
    extra = {"X-Request-Id": identity, **(headers or {})}
    shown: Response | None = request.app.state.error_page(request, body, extra)
    return JSONResponse(body, status, extra, MEDIA_TYPE) if shown is None else shown


def _short(text: str) -> str:
    return text if len(text) <= MOST_DETAIL else f"{text[:MOST_DETAIL]}…"


def _short_error(error: Mapping[str, Any]) -> dict[str, Any]:
    short = {**error, "detail": _short(error["detail"])}
    while len(short.get("pointer", "")) > MOST_POINTER:
        short["pointer"] = short["pointer"].rpartition("/")[0]  # what holds it
    return short


def pointer_to(*parts: int | str) -> str:
    """A JSON Pointer in fragment form."""
    return "#" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def pointer_of(location: Sequence[int | str], body: Any, *, missing: bool) -> str | None:
    """JSON Pointer of a validation error's location; parameters point at nothing in the body.

    Args:
        location: Where the validator was. Its own steps, such as the kind of a union, are in no document and left out.
        body: What was validated.
        missing: Whether the last step is what the body lacks.
    """
    if not location or location[0] != "body":
        return None
    parts, place = [], body
    for number, part in enumerate(location[1:], start=2):
        held = range(len(place)) if isinstance(place, list) else place if isinstance(place, Mapping) else ()
        if part in held:
            place = place[part]
        elif not (missing and number == len(location)):
            continue
        parts.append(part)
    return pointer_to(*parts)


def validation_errors(findings: Sequence[dict[str, Any]], body: Any) -> list[dict[str, Any]]:
    """Findings of the validator as ``{"detail", "pointer"}`` (or ``parameter``), without echoing the input.

    Args:
        findings: Locations begin with ``body`` or the kind of parameter.
        body: The body that was validated.
    """
    errors: list[dict[str, Any]] = []
    for finding in findings[:MAX_ERRORS]:
        location = finding.get("loc", ())
        message = str(finding.get("msg", "not valid")).removeprefix("Value error, ")
        if finding.get("type") == "string_pattern_mismatch":
            message = in_words(finding["ctx"]["pattern"]) or message
        pointer = pointer_of(location, body, missing=finding.get("type") == "missing")
        if pointer is not None:
            errors.append({"detail": message, "pointer": pointer})
        else:
            kind = str(location[0]) if location else "request"
            name = str(location[1]) if len(location) > 1 else kind
            errors.append({"detail": f"{name}: {message}", "parameter": name, "in": kind})
    return errors


def _methods_at(request: Request) -> list[str]:
    """Methods of the address, over all its routes: the framework names only those of the first that matches."""
    fitting: set[str] = set()
    others: set[str] = set()
    for template, operations in request.app.openapi()["paths"].items():
        match = re.fullmatch(re.sub(r"\\{([^/]+?)\\}", r"(?P<\1>[^/]+)", re.escape(template)), request.url.path)
        if match is None:
            continue
        for method, operation in operations.items():
            fits = all(
                re.fullmatch(parameter["schema"].get("pattern", ".*"), match[parameter["name"]])
                for parameter in operation.get("parameters", ())
                if parameter["in"] == "path"
            )
            (fitting if fits else others).add(method.upper())
    methods = fitting or others  # of /v1/datasets/uploads not those of /v1/datasets/{dataset_id}: it is no id
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


def install(app: FastAPI) -> None:
    """Hand every kind of exception to a renderer."""
    log = get_logger()

    @app.exception_handler(ServiceError)
    def _service(request: Request, error: ServiceError) -> Response:
        return problem_response(
            request, error.code, error.detail, errors=error.errors, headers=error.headers, members=error.members
        )

    @app.exception_handler(SpiceError)
    def _library(request: Request, error: SpiceError) -> Response:
        members = {"reasons": dict(error.reasons)} if error.reasons else None
        return problem_response(request, error.code, error.detail, errors=error.errors, members=members)

    @app.exception_handler(RequestValidationError)
    def _validation(request: Request, error: RequestValidationError) -> Response:
        errors = validation_errors(error.errors(), error.body)
        first = errors[0] if errors else {"detail": "not valid"}
        detail = f"{first['pointer']}: {first['detail']}" if "pointer" in first else first["detail"]
        return problem_response(request, "validation-error", detail, errors=errors)

    @app.exception_handler(StarletteHTTPException)
    def _http(request: Request, error: StarletteHTTPException) -> Response:
        code = getattr(error, "code", None) or CODE_BY_STATUS.get(error.status_code, "internal")
        phrase = http.HTTPStatus(error.status_code).phrase
        detail = error.detail
        if detail == phrase and error.status_code == 404:
            detail = "there is nothing at this address"
        elif detail == phrase and error.status_code == 405:
            detail = f"{request.method} is not possible at this address"
        headers = dict(error.headers or {})
        if error.status_code == 405:
            methods = _methods_at(request)
            headers["Allow"] = ", ".join(methods)
            if request.method == "OPTIONS" and "PATCH" in methods:
                headers |= ACCEPT_PATCH
        return problem_response(request, code, detail, status=error.status_code, headers=headers)

    @app.exception_handler(DBAPIError)
    @app.exception_handler(PoolTimeoutError)
    def _database(request: Request, error: Exception) -> Response:
        log.error("database_unavailable", error=str(error), request_id=request_id(request))
        detail = request.app.state.services.health.of_another_build(error) or "the database does not answer"
        return problem_response(request, "unavailable", detail, headers={"Retry-After": "5"})

    @app.exception_handler(ClientDisconnect)
    def _gone(_request: Request, _error: ClientDisconnect) -> Response:
        # Nobody reads it, but it is counted and logged: no fault of ours, and none that fills the log.
        return Response(status_code=400)

    @app.exception_handler(OSError)
    def _disk(request: Request, error: OSError) -> Response:
        if not storage_is_full(error):
            raise error
        log.error("storage_full", error=str(error), request_id=request_id(request))
        return problem_response(request, "storage-full", "there is no room left on the disk of the service")

    @app.exception_handler(Exception)
    def _unexpected(request: Request, error: Exception) -> Response:
        log.error("unexpected_error", exc_info=error, request_id=request_id(request), path=request.url.path)
        # The server closes the connection after a fault: said so, a client does not send its next request into it.
        headers = {"Connection": "close"}
        return problem_response(request, "internal", "an unexpected fault; quote the request_id", headers=headers)
