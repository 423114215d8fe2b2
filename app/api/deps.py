"""Dependencies of the routes: the services, the caller's project, headers and query parameters."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query, Request
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, StringConstraints
from starlette.concurrency import run_in_threadpool

from app.api.pattern_messages import FILE_NAME, METADATA_PAIR, SIGNED_LINK, id_pattern
from app.api.rate_limit import POLICY
from app.api.services import Services
from app.errors import ServiceError
from app.ids import DEFAULT_PROJECT
from app.services.access.keys import Caller
from app.services.idempotency import parse_key
from app.services.jobs.service import Filters
from app.status import Sort

# A dependency that is a plain function costs a thread, so that even those that wait for nothing are asynchronous.
# ruff: file-ignore[unused-async]


async def services(request: Request) -> Services:
    """The services of this process."""
    held: Services = request.app.state.services
    return held


ServicesDep = Annotated[Services, Depends(services)]

RESOURCES = {"datasets": "datasets", "webhook-endpoints": "webhooks", "api-keys": "admin", "projects": "admin"}
"""First step of a path below /v1 to the word of its scope; everything else is part of ``jobs``."""
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="spice-select", Basic realm="spice-select"'}


def scope_of(method: str, path: str) -> str:
    """The scope that a call needs, such as ``jobs:read``."""
    steps = path.strip("/").split("/")
    resource = RESOURCES.get(steps[1].partition(":")[0] if len(steps) > 1 else "", "jobs")
    if resource == "jobs" and len(steps) > 3 and steps[3] in {"files", "provenance", "rows"}:
        resource = "files"
    if resource == "admin":
        return "admin"
    reads = method in {"GET", "HEAD"} or path.startswith("/v1/estimates")
    return f"{resource}:{'read' if reads else 'write'}"


def _shown_key(request: Request) -> str | None:
    shown = request.headers.getlist("authorization")
    if len(shown) > 1:
        return ""  # what stands before us may have looked at the other one
    kind, _, value = "".join(shown).partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return ""
    return None if not kind else ""


def _is_local(request: Request) -> bool:
    """Whether the connection comes from this machine to this machine's loopback address."""
    ends = [request.client.host if request.client else "", str((request.scope.get("server") or ("",))[0])]
    name = request.url.hostname or ""
    if name != "localhost":
        # A page of another site whose name was pointed at this machine must not be taken for a local caller.
        ends.append(name)
    try:
        return all(ipaddress.ip_address(end).is_loopback for end in ends)
    except ValueError:
        return False


def needs_no_key(request: Request) -> bool:
    """Whether the caller needs no key: on this machine, where the settings allow it."""
    return request.app.state.services.settings.auth == "loopback" and _is_local(request)


async def caller(request: Request) -> Caller:
    """The caller, identified once a request; the one place that authorises it.

    Raises:
        ServiceError: ``unauthenticated``, ``rate-limited`` or ``forbidden``.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by admit()
    known = request.scope.get("spice.caller")
    if isinstance(known, Caller):
        return known
    shown, keys = _shown_key(request), request.app.state.services.keys
    remembered = None if shown is None else keys.remembered(shown)
    if shown is None:
        at_once = needs_no_key(request)
    else:
        at_once = remembered is not None and not request.app.state.services.limiter.waits
    # A thread is only worth its price where the database or the broker is asked. Without one the key is not looked for
    # again: were it forgotten by now, every request of the process would wait for the database.
    identified = admit(request, remembered) if at_once else await run_in_threadpool(admit, request)
    request.scope["spice.caller"] = identified
    return identified


def admit(request: Request, remembered: Caller | None = None) -> Caller:
    """Check the key, its rate and its scope.

    Args:
        request: The request.
        remembered: Who showed this key a moment ago, where the database is not to be asked.

    Raises:
        ServiceError: ``unauthenticated``, ``rate-limited`` or ``forbidden``.
    """
    shown = _shown_key(request)
    if shown is None and needs_no_key(request):
        return Caller(DEFAULT_PROJECT, frozenset({"admin"}), None)
    services: Services = request.app.state.services
    identified = remembered or (services.keys.verify(shown) if shown else None)
    if identified is None:
        detail = "this API key is not known, expired or revoked" if shown else "an API key is needed"
        raise ServiceError("unauthenticated", detail, headers=CHALLENGE)
    count_and_check(request, identified)
    return identified


def count_and_check(request: Request, identified: Caller) -> None:
    """Count a request against the rate of its key, whichever way it came in, and check the scope that it needs.

    Args:
        request: The request.
        identified: Who makes it.

    Raises:
        ServiceError: ``rate-limited`` or ``forbidden``.
    """
    services: Services = request.app.state.services
    allowance = services.limiter.take(identified.key_id or identified.project_id)
    if allowance is not None:
        request.scope["spice.headers"].update(allowance.headers())
        if allowance.exceeded:
            raise ServiceError(
                "rate-limited",
                f"more than {allowance.quota} requests in {allowance.window} s",
                headers={"Retry-After": str(allowance.reset)},
                members={"violated-policies": [POLICY]},
            )
    needed = scope_of(request.method, request.url.path)
    if not identified.may(needed):
        raise ServiceError("forbidden", f"the API key lacks the scope {needed}")


CallerDep = Annotated[Caller, Depends(caller)]


async def project(found: CallerDep) -> str:
    """The caller's project."""
    return found.project_id


async def idempotency_key(
    request: Request,
    header: Annotated[
        str | None,
        Header(alias="Idempotency-Key", description="Makes the call safe to repeat: 1 to 255 visible characters."),
    ] = None,
) -> str | None:
    """The checked Idempotency-Key of the request.

    Raises:
        ServiceError: ``idempotency-key-invalid``.
    """
    if len(set(request.headers.getlist("Idempotency-Key"))) > 1:
        raise ServiceError("idempotency-key-invalid", "the Idempotency-Key is given twice, and not the same")
    return parse_key(header)


async def if_match(
    header: Annotated[
        str | None,
        Header(alias="If-Match", max_length=1000, description="Only if the resource still has this `ETag`; else 412."),
    ] = None,
) -> frozenset[int] | None:
    """Versions that the caller knows; None for any. An ETag starts with the version, whatever progress follows it."""
    if header is None or header.strip() == "*":
        return None
    return frozenset(int(version) for version in re.findall(r'(?:W/)?"(\d{1,18})(?:-[^"]*)?"', header))


EXAMPLE_ULID = "01K9RZ3V5X8N3Q2J6T4W7Y0ABC"


def _shape(prefix: str, what: str) -> Any:
    """What an id in a path looks like; anything else is no valid request, and never reaches a query."""
    return Path(pattern=id_pattern(prefix), description=f"Id of {what}.", examples=[f"{prefix}_{EXAMPLE_ULID}"])


def _only_of(prefix: str, what: str) -> Any:
    """A filter by an id: one of another shape would find nothing and look like an empty list."""
    return Query(pattern=id_pattern(prefix), description=f"Only of this {what}.")


DatasetId = Annotated[str, _shape("ds", "a data set")]
UploadId = Annotated[str, _shape("up", "an upload")]
JobId = Annotated[str, _shape("job", "a job")]
EvaluationId = Annotated[str, _shape("ev", "an evaluation")]
GradientSetId = Annotated[str, _shape("gs", "a gradient set")]
ScheduleId = Annotated[str, _shape("sch", "a schedule")]
EndpointId = Annotated[str, _shape("whe", "a webhook endpoint")]
DeliveryId = Annotated[str, _shape("whd", "a message to a webhook endpoint")]
KeyId = Annotated[str, _shape("key", "an API key")]
OfDataset = Annotated[str | None, _only_of("ds", "data set")]
OfJob = Annotated[str | None, _only_of("job", "job")]
FileName = Annotated[str, Path(pattern=FILE_NAME, description="Name of a file.", examples=["selected.parquet"])]
LinkToken = Annotated[
    str,
    Path(
        pattern=SIGNED_LINK,
        description="What was signed, and the signature.",
        examples=["cHJval9kZWZhdWx0L2pvYl8wMS8vMTc2NDAwMDAwMA.rZk2tE1v2S8mYdZb0cW7xg"],
    ),
]


def _on_the_calendar(time: datetime) -> datetime:
    """The time, if it can be said in UTC as well.

    Raises:
        ValueError: It is before the first or after the last year.
    """
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("this time is outside of the years 1 to 9999 in UTC") from error


def _as_text(time: object) -> object:
    """The text of a time, which as the contract says is a date and an hour: a bare number is no count of seconds.

    A ``+`` that was not escaped comes as a space.

    Raises:
        ValueError: It does not begin with a date.
    """
    if not isinstance(time, str):
        return time
    if not re.match(r"\d{4}-\d\d-\d\d\D", time, re.ASCII):
        raise ValueError("a time is written like 2026-01-31T12:00:00Z")
    return re.sub(r" (\d\d:?\d\d)$", r"+\1", time)


Time = Annotated[AwareDatetime, BeforeValidator(_as_text), AfterValidator(_on_the_calendar)]
MetadataPair = Annotated[str, StringConstraints(pattern=METADATA_PAIR)]


async def filters(
    metadata: Annotated[
        list[MetadataPair] | None,
        Query(max_length=16, description="Only with this pair, `KEY=VALUE`; may be repeated, all must hold."),
    ] = None,
    name: Annotated[str | None, Query(max_length=200, description="Only of this name.")] = None,
    q: Annotated[
        str | None, Query(min_length=1, max_length=200, description="Only with this text in the name, or of this id.")
    ] = None,
    created_after: Annotated[Time | None, Query(description="Only made at this time or later.")] = None,
    created_before: Annotated[Time | None, Query(description="Only made before this time.")] = None,
    sort: Annotated[Sort, Query(description="Order of the list; one name has its newest first.")] = "newest",
) -> Filters:
    """Filters and order of a list, apart from the state."""
    pairs = [pair.partition("=") for pair in metadata or ()]
    return Filters(
        name=name,
        text=q,
        metadata={key: value for key, _, value in pairs},
        created_after=created_after,
        created_before=created_before,
        sort=sort,
    )


FiltersDep = Annotated[Filters, Depends(filters)]


def _as_digits(given: Any) -> Any:
    """The text of a whole number.

    Raises:
        ValueError: It is written as only a program would: ``1_0``, ``5.0``.
    """
    if isinstance(given, str) and not re.fullmatch(r"-?[0-9]+", given):
        raise ValueError("write a whole number in digits")
    return given


Limit = Annotated[int, Query(ge=1, le=1000, description="Most entries of one page."), BeforeValidator(_as_digits)]
RowNumber = Annotated[
    int, Path(ge=0, le=2**53, description="Row of the data set, from 0.", examples=[0]), BeforeValidator(_as_digits)
]
After = Annotated[str | None, Query(max_length=2000, description="Cursor: `next_cursor` of the page before.")]
Project = Annotated[str, Depends(project)]
KeyDep = Annotated[str | None, Depends(idempotency_key)]
MatchDep = Annotated[frozenset[int] | None, Depends(if_match)]
