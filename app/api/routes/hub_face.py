"""The read face of the Hugging Face hub: a finished job is the data set ``spice/job_...``.

These are the routes that ``huggingface_hub`` and ``datasets`` call, with the names they read. They are another
service's protocol, so they stand outside of our contract.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from app.api import deps
from app.api.file_response import send_file
from app.errors import ServiceError
from app.persistence.tables import File, Job

router = APIRouter(include_in_schema=False)

NAMESPACE = "spice"
SUMS = "SHA256SUMS"
JOB = re.compile(r"job_[0-9A-HJKMNP-TV-Z]{26}")
POINTER_BYTES = 134
MOST_PATHS = 1000


class HubError(ServiceError):
    """Something is not there; the hub's clients read from ``X-Error-Code`` what."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__("not-found", detail, headers={"X-Error-Code": code})


class Repository:
    """A finished job as the hub's clients see it.

    Attributes:
        job: The job.
        files: The files of its result.
        commit: 40 hex digits that stand for exactly these bytes.
    """

    def __init__(self, job: Job, files: list[File]) -> None:
        self.job, self.files = job, files
        # SHA256SUMS holds the digest of every other file, so its own digest stands for all of them.
        self.commit = next(file.sha256 for file in files if file.name == SUMS)[:40]

    def info(self) -> dict[str, Any]:
        """What the hub tells about a data set."""
        finished = self.job.finished_at or self.job.created_at
        return {
            "id": f"{NAMESPACE}/{self.job.id}",
            "_id": self.job.id,
            "author": NAMESPACE,
            "sha": self.commit,
            "private": True,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": ["spice-select"],
            "createdAt": finished.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "lastModified": finished.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "siblings": [{"rfilename": file.name} for file in self.files],
        }

    @staticmethod
    def entry(file: File) -> dict[str, Any]:
        """A file as the hub lists it."""
        large = {"oid": file.sha256, "size": file.bytes, "pointerSize": POINTER_BYTES}
        return {"type": "file", "path": file.name, "size": file.bytes, "oid": file.sha256[:40], "lfs": large}


def repository(
    namespace: str,
    name: str,
    project: deps.Project,
    service: deps.JobsDep,
    choices: deps.ResultReaderDep,
    revision: str = "main",
) -> Repository:
    """The job of an address.

    Raises:
        HubError: There is no such finished job in the caller's project, or it has no such revision.
    """
    if namespace != NAMESPACE or not JOB.fullmatch(name):
        raise HubError("RepoNotFound", f"there is no data set {namespace}/{name}"[:200])
    try:
        found = Repository(service.get(project, name).job, choices.files(project, name))
    except ServiceError as error:
        raise HubError("RepoNotFound", error.detail) from error
    if revision not in {"main", found.commit}:
        raise HubError("RevisionNotFound", "the only revisions are main and the commit that it stands for")
    return found


RepositoryDep = Annotated[Repository, Depends(repository)]
BASE = "/api/datasets/{namespace}/{name}"


@router.get(BASE)
@router.get(BASE + "/revision/{revision}")
def get_info(found: RepositoryDep) -> Response:
    """What there is, and at which commit."""
    return JSONResponse(found.info(), headers={"X-Repo-Commit": found.commit})


@router.get(BASE + "/tree/{revision}")
@router.get(BASE + "/tree/{revision}/{path:path}")
def list_tree(found: RepositoryDep, path: str = "") -> Response:
    """Files of a folder; there are no folders but the root.

    Raises:
        HubError: Another folder than the root.
    """
    if path.strip("/"):
        raise HubError("EntryNotFound", "the files of a result lie in no folder")
    return JSONResponse([found.entry(file) for file in found.files], headers={"X-Repo-Commit": found.commit})


@router.post(BASE + "/paths-info/{revision}")
async def list_paths(request: Request, found: RepositoryDep) -> Response:
    """Those of the named paths that are files."""
    form = await request.form(max_fields=MOST_PATHS)
    wanted = {str(path) for path in form.getlist("paths")}
    entries = [found.entry(file) for file in found.files if file.name in wanted]
    return JSONResponse(entries, headers={"X-Repo-Commit": found.commit})


@router.head("/datasets/{namespace}/{name}/resolve/{revision}/{path:path}", response_class=FileResponse)
@router.get("/datasets/{namespace}/{name}/resolve/{revision}/{path:path}", response_class=FileResponse)
def get_file(
    request: Request, found: RepositoryDep, path: str, project: deps.Project, results: deps.ResultsDep
) -> Response:
    """The bytes of a file.

    Raises:
        HubError: There is no such file.
    """
    if path not in {file.name for file in found.files}:
        raise HubError("EntryNotFound", "the result has no such file")
    return send_file(request, results.file(project, found.job.id, path), {"X-Repo-Commit": found.commit})
