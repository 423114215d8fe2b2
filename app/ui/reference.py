"""``/docs``: the contract, to be read and tried in a browser. All of it comes from this service and works offline."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from app.ui.pages import HEADERS
from app.ui.statics import static_url

POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    # Swagger UI sets styles of its elements from its script.
    "style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>SPICE Select: reference of the API</title>
<link rel="icon" href="{icon}">
<link rel="stylesheet" href="{style}">
</head>
<body>
<main id="reference"></main>
<noscript>The contract as JSON: <a href="/v1/openapi.json">/v1/openapi.json</a></noscript>
<script src="{library}"></script>
<script src="{start}"></script>
</body>
</html>
"""

router = APIRouter(include_in_schema=False)


@router.get("/docs")
def reference() -> HTMLResponse:
    """The reference; needs no key, as the contract itself does not."""
    page = PAGE.format(
        icon=static_url("icon.svg"),
        style=static_url("swagger-ui.css"),
        library=static_url("swagger-ui-bundle.js"),
        start=static_url("reference.js"),
    )
    return HTMLResponse(page, headers={**HEADERS, "Content-Security-Policy": POLICY})
