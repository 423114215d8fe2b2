"""Handles every request before its route: request id, limit on the bytes received, strict JSON."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, get_args, get_origin

import structlog
from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import tracing
from app.api import deps
from app.api.problems import ACCEPT_PATCH, MERGE_PATCH, BodyError
from app.api.revocation import CHECK_SECONDS, still_let_in
from app.errors import ServiceError
from app.ids import new_id
from app.logs import get_logger
from app.services.datasets.uploads import LARGEST_PART_BYTES

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,100}")
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UPLOAD_PATHS = {"/v1/datasets", "/v1/datasets:preview", "/ui/datasets/preview", "/ui/new"}
PART_PATH = re.compile(r"/(?:v1|ui)/datasets/uploads/[^/]+/parts/[^/]+/?")
UNLOGGED = frozenset({"/livez", "/readyz", "/metrics"})
"""Asked every few seconds by machines."""
LOGGED = frozenset({"job_id", "dataset_id", "gradient_set_id"})
"""Parts of a path that say what a request is about; the token of a signed link is none."""
FILE_PARTS = ("/files/", "/links/", "/resolve/")
MULTIPART_ALLOWANCE_BYTES = 2**20


class RequestMiddleware:
    """ASGI middleware: request id in and out, a limit on the bytes of a body as they arrive, HEAD wherever GET is.

    Args:
        app: The application behind it.
        max_body_bytes: Limit for everything but data sets.
        max_upload_bytes: Limit for data sets.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, max_upload_bytes: int) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        identity = given.decode() if REQUEST_ID.fullmatch(given) else new_id("req")
        scope["spice.request_id"] = identity
        extra: dict[str, str] = {}
        scope["spice.headers"] = extra
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=identity)
        head = scope["method"] == "HEAD" and not any(part in scope["path"] for part in FILE_PARTS)
        if head:
            # The route sees a GET and its body is dropped below; files know HEAD themselves, to not read the file.
            scope = {**scope, "method": "GET", "spice.head": True}
        upload = scope["path"].rstrip("/") in UPLOAD_PATHS
        limit = self.max_upload_bytes + MULTIPART_ALLOWANCE_BYTES if upload else self.max_body_bytes
        if PART_PATH.fullmatch(scope["path"]):
            limit = LARGEST_PART_BYTES
        received = 0
        announced = headers.get(b"content-length", b"")
        waits = headers.get(b"expect", b"").lower() == b"100-continue"

        async def counted() -> Message:
            nonlocal received
            # Whoever waits for 100 Continue need not send gigabytes to have them refused.
            if waits and announced.isdigit() and int(announced) > limit:
                raise BodyError("payload-too-large", f"the body is larger than {limit} bytes")
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                # Counted on arrival: a length that lies, or none at all, makes no difference.
                if received > limit:
                    raise BodyError("payload-too-large", f"the body is larger than {limit} bytes")
            return message

        async def identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                if b"x-request-id" not in names:
                    message["headers"] = [*message["headers"], (b"x-request-id", identity.encode())]
                added = [(name.lower().encode(), value.encode()) for name, value in extra.items()]
                message["headers"] = [*message["headers"], *added]
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        started = time.perf_counter()
        status, made = 500, ""
        checked, revoked = time.monotonic(), False

        async def noted(message: Message) -> None:
            nonlocal status, made, checked, revoked
            # A refusal is sent whole: it may be the one that says that the key is gone.
            if status < 400 and message.get("body") and time.monotonic() - checked >= CHECK_SECONDS:
                if not await still_let_in(scope):
                    revoked = True
                    raise ConnectionAbortedError("the API key was revoked or has expired")
                checked = time.monotonic()
            if message["type"] == "http.response.start":
                status = message["status"]
                made = next((value.decode() for name, value in message["headers"] if name.lower() == b"location"), "")
            await identified(message)

        # Unknown methods would make names without end.
        verb = scope["method"] if scope["method"] in METHODS else "other"
        caller = tracing.valid(headers.get(b"traceparent", b"").decode("latin-1"))
        trace = tracing.span(verb, "server", parents=[caller] if caller else [])
        span = trace.__enter__()
        scope["spice.traceparent"] = caller if span is None else tracing.traceparent_of(span)
        try:
            await self.app(scope, counted, noted)
        except Exception:
            if not revoked:
                raise
            get_logger().info("answer_cut_off", reason="the API key was revoked or has expired")
        finally:
            # A template, or nothing: paths that strangers make up must not become series.
            route = getattr(scope.get("route"), "path", "none")
            seconds = time.perf_counter() - started
            if span is not None:
                span.update_name(f"{verb} {route}")
                span.set_attributes({"http.request.method": verb, "http.route": route})
                span.set_attributes({"http.response.status_code": status, "spice.request_id": identity})
                if status >= 500:
                    tracing.failed(span, f"answered {status}")
            scope["app"].state.services.metrics.answered(verb, route, status, seconds)
            if route not in UNLOGGED:
                # What was made has a path of its own; an address in full is a signed link, which opens a file.
                about = {name: value for name, value in scope.get("path_params", {}).items() if name in LOGGED}
                if made.startswith("/"):
                    about["location"] = made
                known = scope.get("spice.caller")
                if known is not None and known.key_id is not None:  # who did it
                    about["key_id"] = known.key_id
                get_logger().info(
                    "request", method=verb, route=route, status=status, seconds=round(seconds, 4), **about
                )
            trace.__exit__(None, None, None)


class StrictRequest(Request):
    """A request whose JSON is parsed strictly."""

    async def json(self) -> Any:
        """The body as JSON: UTF-8, no NaN, no key twice, no deep nesting, no lone surrogates.

        Raises:
            BodyError: ``malformed-request``, ``validation-error`` for NaN and infinity.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by strict_json()
        return strict_json(await self.body())


def _asks_for_key(dependant: Dependant) -> bool:
    return dependant.call is deps.caller or any(_asks_for_key(inner) for inner in dependant.dependencies)


def _queries(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """Names of the query parameters of a route, and whether each may be repeated."""
    for field in dependant.query_params:
        kinds = (field.field_info.annotation, *get_args(field.field_info.annotation))
        yield field.alias, any(get_origin(kind) is list for kind in kinds)
    for inner in dependant.dependencies:
        yield from _queries(inner)


def _refuse_unread(request: Request, read: dict[str, bool]) -> None:
    """Refuse a misspelt filter: ignoring it would return the whole list.

    Raises:
        ServiceError: ``validation-error``.
    """
    errors = [
        {"detail": f"{name[:100]}: {reason}", "parameter": name[:100], "in": "query"}
        for name, times in Counter(name for name, _ in request.query_params.multi_items()).items()
        if (reason := _unread(name, times, read))
    ]
    if errors:
        raise ServiceError("validation-error", errors[0]["detail"], errors=errors)


def _unread(name: str, times: int, read: dict[str, bool]) -> str | None:
    if name not in read:
        return f"no parameter of this call, which takes {', '.join(sorted(read)) or 'none'}"
    return f"given {times} times, and only one can hold" if times > 1 and not read[name] else None


class StrictRoute(APIRoute):
    """Route whose query parameters and JSON body are read strictly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler so that it sees a strict request."""
        inner = super().get_route_handler()
        asks_for_key = _asks_for_key(self.dependant)
        read = dict(_queries(self.dependant))
        # Those of a route that reads its body by itself.
        declared = (self.openapi_extra or {}).get("parameters", ())
        read |= {parameter["name"]: False for parameter in declared if parameter["in"] == "query"}

        async def handler(request: Request) -> Response:
            if asks_for_key:
                # Before a byte of the body is looked at: strangers learn nothing from how it is refused.
                await deps.caller(request)
                _refuse_unread(request, read)
            if request.headers.get("content-encoding", "").strip().lower() not in {"", "identity"}:
                raise BodyError("unsupported-media-type", "send the body without Content-Encoding")
            has_body = request.method in {"POST", "PUT", "PATCH"}
            if has_body and self.body_field is not None:
                media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if media_type != "application/json" and (request.method, media_type) != ("PATCH", MERGE_PATCH):
                    headers = ACCEPT_PATCH if request.method == "PATCH" else None
                    raise BodyError("unsupported-media-type", "send the body as application/json", headers)
            return await inner(StrictRequest(request.scope, request.receive))

        return handler


MAX_DEPTH = 64


def strict_json(body: bytes) -> Any:
    """Parse JSON strictly: UTF-8, no NaN, no duplicate keys, no deep nesting, no lone surrogates.

    Args:
        body: The text, which errors call "the body".

    Raises:
        BodyError: ``malformed-request``, ``validation-error`` for NaN, infinity and half of a surrogate pair.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BodyError("malformed-request", f"the body is not UTF-8 (byte {error.start})") from error
    if _depth(text) > MAX_DEPTH:
        raise BodyError("malformed-request", f"the body is nested deeper than {MAX_DEPTH} levels")
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
    except json.JSONDecodeError as error:
        detail = f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise BodyError("malformed-request", detail) from error
    except (RecursionError, ValueError) as error:
        raise BodyError("malformed-request", "the body holds a number that is too long") from error
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BodyError("validation-error", "the body holds half of a surrogate pair") from error
    return value


def _depth(text: str) -> int:
    """Deepest nesting of brackets outside strings."""
    deepest = level = 0
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text, re.DOTALL):
        token = match[0]
        if token in {"[", "{"}:
            level += 1
            deepest = max(deepest, level)
        elif token in {"]", "}"}:
            level -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BodyError("malformed-request", f"the body names the key {twice[:100]!r} twice")
    return value


def _refuse(name: str) -> Any:
    raise BodyError("validation-error", f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise BodyError("validation-error", f"{text[:40]} is too large for a number")
    return value
