"""API keys of a project as a page: made, rotated, revoked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Form, Response

from app.api import deps, pagination
from app.api.schemas.api_keys import ApiKeyCreate, ApiKeyRotate
from app.api.services import Services
from app.persistence.tables import ApiKey
from app.services.access.keys import Caller
from app.status import EVERYDAY, SCOPES
from app.ui.auth import SameOrigin, Visitor
from app.ui.form_fields import FormFields, accepted, first_of, number
from app.ui.pages import page

router = APIRouter(include_in_schema=False)

KEYS = 50
SCOPES_SHOWN = {
    "datasets:read": "see data sets",
    "datasets:write": "upload and delete data sets",
    "jobs:read": "see jobs and what they selected",
    "jobs:write": "make, cancel and delete jobs",
    "files:read": "download results",
    "files:write": "share links to results",
    "webhooks:read": "see webhooks",
    "webhooks:write": "set webhooks up",
    "admin": "everything, keys included",
}
LABELS = {"name": "Name", "scopes": "It may", "expires_in_days": "Ends after, days", "overlap_hours": "Overlap, hours"}
_field_of = first_of(LABELS)


@router.get("/ui/api-keys")
def list_keys(visitor: Visitor, services: deps.ServicesDep, after: deps.After = None) -> Response:
    """Keys of the project, newest first, and the form of another."""
    return _keys(visitor, services, _blank(), after=after)


@router.post("/ui/api-keys", dependencies=[SameOrigin])
def make_key(
    visitor: Visitor,
    services: deps.ServicesDep,
    name: Annotated[str, Form(max_length=1000)] = "",
    scopes: Annotated[list[str] | None, Form(max_length=20)] = None,
    expires_in_days: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Make a key; its secret is on the page that answers and nowhere else."""
    values = {"name": name, "scopes": " ".join(scopes or ()), "expires_in_days": expires_in_days}
    draft = FormFields(values)
    body = {"name": name.strip(), "scopes": scopes or [], "expires_in_days": number(draft, "expires_in_days")}
    asked = accepted(draft, ApiKeyCreate, body, _field_of)
    if asked is None:
        return _keys(visitor, services, draft)
    made = services.keys.create(visitor.project_id, asked.name, asked.scopes, asked.expires_in_days)
    return _keys(visitor, services, _blank(), made=made)


@router.post("/ui/api-keys/{key_id}/rotate", dependencies=[SameOrigin])
def rotate_key(
    key_id: str,
    visitor: Visitor,
    services: deps.ServicesDep,
    overlap_hours: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Make a key with the same rights; the old one ends after the overlap."""
    draft = FormFields({"overlap_hours": overlap_hours})
    hours = number(draft, "overlap_hours")
    body = {} if hours is None else {"overlap_hours": hours}
    asked = accepted(draft, ApiKeyRotate, body, lambda _: "overlap_hours")
    if asked is None:
        return _keys(visitor, services, _blank(), rotating=(key_id, draft))
    made = services.keys.rotate(visitor.project_id, key_id, asked.overlap_hours)
    return _keys(visitor, services, _blank(), made=made)


@router.post("/ui/api-keys/{key_id}/revoke", dependencies=[SameOrigin])
def revoke_key(key_id: str, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """End a key at once."""
    services.keys.revoke(visitor.project_id, key_id)
    return _keys(visitor, services, _blank())


def _blank() -> FormFields:
    return FormFields({"scopes": " ".join(EVERYDAY)})


def _keys(
    visitor: Caller,
    services: Services,
    draft: FormFields,
    *,
    made: tuple[ApiKey, str] | None = None,
    rotating: tuple[str, FormFields] | None = None,
    after: str | None = None,
) -> Response:
    """The keys of a project."""
    before = pagination.id_cursor(after, "key")
    rows = services.keys.page(visitor.project_id, before=before, limit=KEYS + 1)
    moment = datetime.now(UTC)
    refused = draft.errors or (rotating[1].errors if rotating else {})
    return page(
        "api_keys.html",
        http_status=422 if refused else 200,
        visitor=visitor,
        draft=draft,
        made=made,
        rotating=rotating,
        keys=[(key, key_state(key, moment)) for key in rows[:KEYS]],
        scopes=[(scope, SCOPES_SHOWN[scope]) for scope in SCOPES],
        labels=LABELS,
        after=after,
        next_cursor=pagination.encode_cursor(rows[KEYS - 1].id) if len(rows) > KEYS else None,
        asks_for_keys=services.settings.auth == "keys",
    )


def key_state(key: ApiKey, moment: datetime) -> str:
    """``valid``, ``ending`` (valid, with an end that is near), ``revoked`` or ``expired``.

    Args:
        key: A key.
        moment: Now.
    """
    if key.revoked_at is not None and key.revoked_at <= moment:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= moment:
        return "expired"
    return "valid" if key.revoked_at is None else "ending"
