"""Who looks at the page, and that a form was sent by the page itself."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from app.api import deps
from app.errors import ServiceError
from app.services.access.keys import Caller

COOKIE = "spice_session"


def visitor(request: Request) -> Caller:
    """The caller: by a session, or as the API identifies one. The scope follows from the address as it does there.

    Raises:
        ServiceError: ``unauthenticated``, ``rate-limited`` or ``forbidden``.
    """
    word = request.cookies.get(COOKIE)
    if word is None or "authorization" in request.headers or deps.needs_no_key(request):
        return deps.admit(request)
    caller: Caller | None = request.app.state.services.sessions.caller(word)
    if caller is None:
        raise ServiceError("unauthenticated", "the session is over")
    deps.count_and_check(request, caller)
    request.scope["spice.caller"] = caller  # a download of the page ends with the key as well
    return caller


Visitor = Annotated[Caller, Depends(visitor)]


def same_origin(request: Request) -> None:
    """Refuse a form that another site had the browser send.

    Browsers name the sending page's origin with every POST, and scripts cannot change it.

    Raises:
        ServiceError: ``forbidden``.
    """
    sender = urlsplit(request.headers.get("origin", ""))
    public = urlsplit(request.app.state.services.settings.public_url)
    host = request.headers.get("host", "")
    # A page sent in the clear is anybody's on the way: it may not speak for one that comes by TLS.
    encrypted = request.url.scheme == "https" or (public.scheme == "https" and sender.netloc == public.netloc)
    schemes = {"https"} if encrypted else {"http", "https"}
    if not sender.netloc or sender.netloc not in {host, public.netloc} or sender.scheme not in schemes:
        raise ServiceError("forbidden", "this form was not sent by a page of this service")


SameOrigin = Depends(same_origin)
