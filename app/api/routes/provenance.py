"""``/v1/jobs/{id}/provenance``: where a result came from, in the words of those who ask."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from app.api import deps
from app.api.middleware import StrictRoute
from app.api.problems import base_url
from spice_select.results.provenance import CROISSANT_MEDIA_TYPE, STATEMENT_MEDIA_TYPE
from spice_select.results.signature import ENVELOPE_FILE, ENVELOPE_MEDIA_TYPE

router = APIRouter(prefix="/v1", route_class=StrictRoute)

Format = Literal["in-toto", "dsse", "croissant", "openlineage"]
Document = Literal["in-toto", "dsse", "croissant"]
FILES: dict[Document, str] = {
    "in-toto": "provenance.intoto.jsonl",
    "dsse": ENVELOPE_FILE,
    "croissant": "croissant.json",
}
LINEAGE = "application/vnd.openlineage+json"
MEDIA: dict[Format, str] = {
    "in-toto": STATEMENT_MEDIA_TYPE,
    "dsse": ENVELOPE_MEDIA_TYPE,
    "croissant": CROISSANT_MEDIA_TYPE,
    "openlineage": LINEAGE,
}
ANYTHING: dict[bool, dict[str, Any]] = {
    False: {"additionalProperties": True},
    True: {"items": {"type": "object", "additionalProperties": True}},
}
FACES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The in-toto statement, or what `format` or `Accept` asks for.",
        "content": {
            media.partition(";")[0]: {
                "schema": {"type": "array" if name == "openlineage" else "object", **ANYTHING[name == "openlineage"]}
            }
            for name, media in MEDIA.items()
        },
    }
}


def wanted_format(accept: str) -> Format:
    """What an ``Accept`` header prefers; the in-toto statement where it names none of ours."""
    best: tuple[float, Format] = (0.0, "in-toto")
    for entry in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in entry.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            quality = float(weight)
        except ValueError:
            continue
        for name, media in MEDIA.items():
            if kind == media.partition(";")[0] and quality > best[0]:
                best = (quality, name)
    return best[1]


@router.get("/jobs/{job_id}/provenance", response_class=Response, responses=FACES, tags=["jobs"])
def get_provenance(
    request: Request,
    job_id: deps.JobId,
    project: deps.Project,
    services: deps.ServicesDep,
    format: Annotated[Format | None, Query(description="Stronger than `Accept`.")] = None,
) -> Response:
    """Which bytes, by which model, code and settings: in-toto statement, signed or plain, Croissant or OpenLineage."""
    form = format or wanted_format(request.headers.get("accept", ""))
    if form == "openlineage":
        return JSONResponse(
            services.results.run_events(project, job_id), media_type=LINEAGE, headers={"Vary": "Accept"}
        )
    text = services.results.file(project, job_id, FILES[form]).path.read_text(encoding="utf-8")
    document = json.loads(text.splitlines()[0] if form == "in-toto" else text)
    if form == "croissant":
        # Whoever reads it here does not have the files beside it.
        for file in document["distribution"]:
            file["contentUrl"] = f"{base_url(request)}/v1/jobs/{job_id}/files/{file['contentUrl']}"
    return JSONResponse(document, media_type=MEDIA[form], headers={"Vary": "Accept"})
