"""Who looks at the page, and that a form was sent by the page itself."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from app.api import deps
from app.errors import ServiceError
from app.services.keys import Caller

Visitor = Annotated[Caller, Depends(deps.caller)]
"""Whoever is let in; the scope follows from the address as it does for the API."""


def same_origin(request: Request) -> None:
    """Refuse a form that another site had the browser send.

    Browsers name the sending page's origin with every POST, and scripts cannot change it.

    Raises:
        ServiceError: ``forbidden``.
    """
    sender = urlsplit(request.headers.get("origin", "")).netloc
    public = urlsplit(request.app.state.settings.public_url).netloc
    if not sender or sender not in {request.headers.get("host", ""), public}:
        raise ServiceError("forbidden", "this form was not sent by a page of this service")


SameOrigin = Depends(same_origin)
