"""The form of a new job: shown, sent, and what it would take meanwhile."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from app.api import deps, serializers
from app.api.routes.jobs import job_request, request_digest
from app.api.services import Services
from app.api.uploads import BLOCK_BYTES, Writer
from app.errors import NotFoundError, ServiceError
from app.ids import new_id
from app.persistence.tables import Dataset
from app.services.access.keys import Caller
from app.services.datasets.service import DatasetView
from app.services.jobs.service import Filters
from app.status import DatasetStatus
from app.ui import job_form, pool_fields, setting_fields, target_fields
from app.ui.auth import SameOrigin, Visitor
from app.ui.budget_fields import UNITS
from app.ui.form_fields import FormFields
from app.ui.job_clone import clone
from app.ui.job_form import blank, field_of, is_field, request_of
from app.ui.jobs import MOST_DATASETS
from app.ui.pages import page
from app.ui.pool_fields import SentFile
from spice_select.errors import SpiceError

router = APIRouter(include_in_schema=False)

MOST_FIELDS = 1000
MOST_TEXT = 2**22
"""Bytes of a field: target rows are pasted into one."""


@router.get("/ui/new")
def new_job(
    request: Request, visitor: Visitor, services: deps.ServicesDep, like: str = "", dataset_id: str = ""
) -> Response:
    """The form, empty or filled as another job was."""
    if like:
        draft = clone(serializers.job_read(request, services.jobs.get(visitor.project_id, like)), new_id("page"))
    else:
        draft = blank(services.settings.default_proxy, new_id("page"))
        draft.values["dataset_id"] = dataset_id
    return form_page(request, visitor, draft)


@router.post("/ui/new", dependencies=[SameOrigin])
async def submit(request: Request, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """Keep the files that came along, and queue the job as soon as their rows are checked."""
    with services.store.scratch() as folder:
        draft, files, wanted = await _read(request, folder, services.settings.max_upload_bytes)
        return await run_in_threadpool(_submit, request, visitor, draft, files, wanted)


@router.post("/ui/new/estimate", dependencies=[SameOrigin])
async def estimate(request: Request, visitor: Visitor) -> Response:
    """What the form as it stands would take, for the script that asks whenever something is changed."""
    form = await request.form(max_files=0, max_fields=MOST_FIELDS, max_part_size=MOST_TEXT)
    draft = FormFields({name: text for name, text in form.items() if is_field(name) and isinstance(text, str)})
    found = await run_in_threadpool(estimated, request.app.state.services, visitor, draft)
    return page("new_estimate.html", estimate=found)


@router.get("/ui/new/target")
def another_target(
    visitor: Visitor, services: deps.ServicesDep, number: Annotated[int, Query(ge=1)], prefix: str = "target"
) -> Response:
    """The fields of one more target or protected set, for the script that puts them into the form.

    Raises:
        NotFoundError: A job may not have as many.
    """
    if number >= target_fields.MOST.get(prefix, 0):
        raise NotFoundError(f"target {number + 1}")
    slot = target_fields.Slot(prefix, number)
    return page("new_target.html", draft=FormFields({}), slot=slot, **_choices(services, visitor, FormFields({})))


async def _read(request: Request, folder: Path, max_bytes: int) -> tuple[FormFields, dict[str, SentFile], str]:
    """The fields of the form, the files by their field, and which button sent it.

    Raises:
        ServiceError: ``malformed-request``.
    """
    try:
        form = await request.form(
            max_files=1 + sum(target_fields.MOST.values()), max_fields=MOST_FIELDS, max_part_size=MOST_TEXT
        )
    except MultiPartException as error:
        raise ServiceError("malformed-request", f"the form cannot be read: {error.message}") from error
    try:
        values = {name: text for name, text in form.items() if is_field(name) and isinstance(text, str)}
        files: dict[str, SentFile] = {}
        for field, file in form.items():
            if not isinstance(file, UploadFile) or not file.filename or (field != "file" and not is_field(field)):
                continue
            with Writer(folder / f"upload-{len(files)}", max_bytes) as writer:
                while chunk := await file.read(BLOCK_BYTES):
                    writer.write(chunk)
            name = "".join(letter for letter in Path(file.filename).name if letter.isprintable())[:200]
            files[field] = SentFile(writer.close(), name)
        return FormFields(values), files, str(form.get("do", ""))
    finally:
        await form.close()


def _submit(request: Request, visitor: Caller, draft: FormFields, files: dict[str, SentFile], wanted: str) -> Response:
    """One step on the way from a form to a job."""
    services: Services = request.app.state.services
    once = draft.values.get("once") or new_id("page")
    pool_fields.register(services, visitor, draft, files, once)
    if wanted.startswith("add-") and (prefix := wanted.removeprefix("add-")) in target_fields.MOST:
        number = min(len(target_fields.slots(draft, prefix)), target_fields.MOST[prefix] - 1)
        draft.values.setdefault(target_fields.Slot(prefix, number).field("name"), "")
        return form_page(request, visitor, draft)
    if wanted == "estimate":
        return form_page(request, visitor, draft, estimate=estimated(services, visitor, draft))
    asked = request_of(draft)
    if asked is None:
        return form_page(request, visitor, draft)
    try:
        named = [asked.dataset_id, *(each.dataset_id for each in (*asked.targets, *asked.protect) if each.dataset_id)]
        for dataset_id in named:
            view = _known(services, visitor, dataset_id, refuse=dataset_id == asked.dataset_id)
            if view is not None and view.dataset.status == DatasetStatus.VALIDATING:
                progress = serializers.dataset_read(request, view).progress
                return page("starting.html", visitor=visitor, draft=draft, dataset=view.dataset, progress=progress)
        digest = request_digest(asked)
        # Sent twice, it is one job; changed and sent again, it is another.
        made, _ = services.jobs.create(visitor.project_id, job_request(asked), key=f"{once[:60]}-{digest}", body=digest)
    except NotFoundError as error:
        draft.refuse("dataset_id", error.detail)
        return form_page(request, visitor, draft)
    except (ServiceError, SpiceError) as error:
        draft.refuse_all(error, lambda pointer: field_of(draft, pointer))
        return form_page(request, visitor, draft)
    address = f"/ui/jobs/{made.job.id}"
    if "hx-request" in request.headers:
        return Response(status_code=204, headers={"HX-Redirect": address})
    return RedirectResponse(address, 303)


def _known(services: Services, visitor: Caller, dataset_id: str, *, refuse: bool) -> DatasetView | None:
    """A data set of the form; one that is not there is None where the job itself will be refused for it.

    Raises:
        NotFoundError: It is not there.
    """
    try:
        return services.datasets.get(visitor.project_id, dataset_id)
    except NotFoundError:
        if refuse:
            raise
        return None


def estimated(services: Services, visitor: Caller, draft: FormFields) -> dict[str, Any]:
    """What the form would take, as the template shows it: an ``estimate``, or why there is none yet as ``missing``."""
    asked = FormFields(dict(draft.values))
    if not asked.text("dataset_id"):
        return {"missing": "Say from what to select, and the time is estimated here; for a file once it is sent."}
    try:
        body = request_of(asked)
        if body is not None:
            return {"estimate": services.jobs.estimate(visitor.project_id, job_request(body))}
        name, (detail, *_) = next(iter(asked.errors.items()))
    except (ServiceError, SpiceError) as error:
        name, detail = field_of(asked, next((e.get("pointer") for e in error.errors), None)), error.detail
    return {"missing": f"{job_form.label(name)}: {detail}" if name else detail}


def _choices(services: Services, visitor: Caller, draft: FormFields) -> dict[str, Any]:
    """Data sets, columns and models to choose from."""
    datasets: list[Dataset] = []
    if visitor.may("datasets:read"):
        project = visitor.project_id
        views = services.datasets.page(project, Filters(), before=None, limit=MOST_DATASETS)
        chosen = {text for name, text in draft.values.items() if name.endswith("dataset_id") and text}
        for missing in sorted(chosen - {view.dataset.id for view in views}):
            with suppress(NotFoundError):
                views.append(services.datasets.get(project, missing))
        datasets = [view.dataset for view in views if view.dataset.status != DatasetStatus.INVALID]
    pool = [dataset for dataset in datasets if dataset.id == draft.text("dataset_id")]
    columns = dict.fromkeys(name for dataset in pool or datasets for name in dataset.column_names or [])
    settings = services.settings
    return {
        "datasets": datasets,
        "columns": list(columns),
        "most": target_fields.MOST,
        "kinds": target_fields.KINDS,
        "kind_of": target_fields.kind_of,
        "max_upload_bytes": settings.max_upload_bytes,
        "proxies": settings.named_proxies,
        "takes_sources": pool_fields.sources(settings),
    }


def form_page(
    request: Request, visitor: Caller, draft: FormFields, *, estimate: dict[str, Any] | None = None
) -> Response:
    """The form with what was typed and what is wrong."""
    services: Services = request.app.state.services
    groups = setting_fields.groups()
    values: dict[str, Any] = {
        "visitor": visitor,
        "draft": draft,
        "targets": target_fields.slots(draft),
        "protected": target_fields.slots(draft, "protect"),
        "protects": any(name.startswith("protect_") and text for name, text in draft.values.items()),
        "units": UNITS,
        "presets": job_form.PRESETS,
        "label": job_form.label,
        "groups": groups,
        "used": {
            title: sum(1 for setting in fields if draft.text(setting.name) or setting.name in draft.errors)
            for title, fields in groups
        },
        "estimate": estimate,
        **_choices(services, visitor, draft),
    }
    if "hx-request" in request.headers:
        # A form that was refused while its file was being checked takes the place of the whole page.
        headers = {"HX-Retarget": "#content", "HX-Reswap": "outerHTML", "HX-Reselect": "#content"}
        return page("new.html", headers=headers, **values)
    return page("new.html", http_status=422 if draft.errors else 200, **values)
