"""Templates, security headers, and errors as pages."""

from __future__ import annotations

import json
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from app.ui import labels
from app.ui.statics import static_url
from spice_select.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""No inline script or style, nothing from another host, in no frame."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: browsers would then hide the origin of our own forms as well.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}


@cache
def templates() -> Environment:
    """The templates, read when the first page is asked for: the API starts sooner without."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for filter_ in (
        labels.number,
        labels.percent,
        labels.size,
        labels.duration,
        labels.money,
        labels.ago,
        labels.until,
        labels.stamp,
        labels.choice,
        labels.settings,
        labels.phase,
        labels.excerpt,
    ):
        environment.filters[filter_.__name__] = filter_
    environment.filters["code"] = _code
    environment.filters["capfirst"] = lambda text: text[:1].upper() + text[1:]
    environment.filters["tojson_text"] = partial(json.dumps, ensure_ascii=False)
    environment.globals.update(
        static=static_url,
        version=__version__,
        steps=labels.steps,
        headline=labels.headline,
        methods=labels.METHODS,
        stops=labels.STOPS,
    )
    return environment


def _code(text: str) -> str:
    """Text with what stands between double backticks set as code; all of it is escaped."""
    from markupsafe import Markup, escape

    parts = [escape(part) for part in text.split("``")]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )


def page(
    template: str, *, http_status: int = 200, headers: dict[str, str] | None = None, **values: Any
) -> HTMLResponse:
    """Render a template.

    Args:
        template: Its file name.
        http_status: Of the answer.
        headers: Beside the security headers.
        values: What the template names; all of it is escaped.
    """
    return HTMLResponse(
        templates().get_template(template).render(**values), http_status, {**HEADERS, **(headers or {})}
    )


def wants_page(request: Request, code: str) -> bool:
    """Whether an error is shown to a person: on the page, or where a browser finds nothing."""
    path = request.url.path
    if path.startswith("/ui/datasets/uploads"):
        return False  # asked by the script alone, which says the detail beside the file
    if path == "/ui" or path.startswith("/ui/"):
        return True
    return code == "not-found" and not path.startswith("/v1") and "text/html" in request.headers.get("accept", "")


def _to_login(request: Request) -> Response:
    """Lead to the login, unless the browser only kept the cookie back because a link of another site was followed."""
    if request.headers.get("sec-fetch-site") == "cross-site" and request.headers.get("sec-fetch-mode") == "navigate":
        return page("again.html")
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/ui/login?{urlencode({'next': wanted})}", 303)


def error_page(request: Request, problem: dict[str, Any], headers: dict[str, str]) -> Response | None:
    """A problem as a page; None where the problem object is wanted."""
    if not wants_page(request, problem["code"]):
        return None
    if problem["code"] == "unauthenticated":
        # A challenge for Basic would make browsers ask with a window of their own, even for a request of a script.
        headers = {**headers, "WWW-Authenticate": 'Bearer realm="spice-select"'}
        if request.method == "GET" and "hx-request" not in request.headers:
            return _to_login(request)
    return page("error.html", http_status=problem["status"], headers=headers, problem=problem)
