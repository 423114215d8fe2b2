"""Coming in with an API key where one is needed, and leaving."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from app.services.access.sessions import SECONDS
from app.ui.auth import COOKIE, SameOrigin
from app.ui.pages import page

router = APIRouter(include_in_schema=False)

INSIDE = re.compile(r"/ui(?:[/?][\w/?=&%.-]*)?")


def _inside(address: str) -> str:
    """The address if it is one of the page, else the list: a link must not lead elsewhere after the login."""
    return address if INSIDE.fullmatch(address) else "/ui"


@router.get("/ui/login")
def login_form(next: str = "/ui") -> Response:
    """Ask for a key."""
    return page("login.html", next=_inside(next), wrong=False)


@router.post("/ui/login", dependencies=[SameOrigin])
def login(
    request: Request,
    key: Annotated[str, Form(max_length=200)] = "",
    next: Annotated[str, Form(max_length=2000)] = "/ui",
) -> Response:
    """Begin a session."""
    word = request.app.state.services.sessions.begin(key)
    if word is None:
        return page("login.html", http_status=401, next=_inside(next), wrong=True)
    answer = RedirectResponse(_inside(next), 303)
    public: str = request.app.state.services.settings.public_url
    answer.set_cookie(
        COOKIE,
        word,
        max_age=SECONDS,
        path="/ui",
        secure=request.url.scheme == "https" or public.startswith("https:"),
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/ui/logout", dependencies=[SameOrigin])
def logout(request: Request) -> Response:
    """End the session of this browser, also for whoever has a copy of its cookie."""
    word = request.cookies.get(COOKIE)
    if word is not None:
        request.app.state.services.sessions.end(word)
    answer = RedirectResponse("/ui/login", 303)
    answer.delete_cookie(COOKIE, path="/ui", httponly=True, samesite="strict")
    return answer
