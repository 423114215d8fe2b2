"""``spice-select mcp``: the service as tools of an assistant, by the Model Context Protocol.

Each tool is one call of the client or a few; what it answers is what the client answers, as JSON. Files are read and
written on the machine that runs the command.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field

from spice_select.cli import options
from spice_select.client import Client
from spice_select.errors import SpiceError, WaitTimeoutError
from spice_select.ingest.source_urls import is_address
from spice_select.version import __version__

if TYPE_CHECKING:
    from mcp.server import MCPServer

INSTRUCTIONS = """\
Selects the part of an instruction-tuning data set that is worth training on. First ask what the model should get better
at: 3 to 30 rows of that, in the form of the data set, are a target. Without one nothing tells noise from the rest.
The usual order: register_dataset, preview_dataset (is it read as meant?), estimate_job, start_job with targets,
watch_job until it has ended, list_selection, explain_row (why a row was selected, or not), fetch_files."""
WATCH_SECONDS = 50.0
"""Longest that one call waits: assistants give up on a tool after about a minute."""

DatasetId = Annotated[str, Field(description="Id of a data set, ds_...")]
JobId = Annotated[str, Field(description="Id of a job, job_...")]
BudgetText = Annotated[str, Field(description="How much to select: '10%', '500', '50000 tokens' or '20% tokens'.")]
Targets = Annotated[
    list[dict[str, Any]],
    Field(
        description="What the model should get better at: [{'name': 'math', 'rows': [{...}, ...]}] with rows like "
        "those of the data set, or {'name': ..., 'dataset_id': 'ds_...'}; 'weight' is a target's share of the picks."
    ),
]
Settings = Annotated[
    dict[str, Any],
    Field(
        description="Further fields of POST /v1/jobs, such as preset, proxy, selection, screens, must_include, name."
    ),
]


def server() -> MCPServer[Any]:
    """The tools, for the service that the environment names."""
    from mcp.server import MCPServer

    made: MCPServer[Any] = MCPServer(
        "spice-select", title="SPICE Select", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING"
    )
    tools = Tools(options.service())
    for tool in (
        tools.register_dataset,
        tools.preview_dataset,
        tools.estimate_job,
        tools.start_job,
        tools.watch_job,
        tools.list_selection,
        tools.explain_row,
        tools.cancel_job,
        tools.retry_job,
        tools.fetch_files,
    ):
        made.tool()(_telling(tool))
    return made


def _telling(tool: Callable[..., Any]) -> Callable[..., Any]:
    """A tool that tells the assistant why it was refused; other errors of a tool are kept from it."""
    from mcp.server.mcpserver.exceptions import ToolError

    @wraps(tool)
    def told(**arguments: Any) -> Any:
        try:
            return tool(**arguments)
        except SpiceError as error:
            raise ToolError(f"{error.code}: {error}") from error

    return told


class Tools:
    """What an assistant can ask for; a refusal is an error whose text says what to change.

    Args:
        client: Of the service.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def register_dataset(
        self,
        source: Annotated[
            str,
            Field(description="A file, or an address that the service fetches: hf://datasets/ORG/NAME@REVISION ..."),
        ],
    ) -> dict[str, Any]:
        """Send a file of training records, or have the service fetch one; waits until its rows are validated."""
        if is_address(source):
            made = self._client.datasets.from_source(source)
        else:
            made = self._client.datasets.push(Path(source).expanduser())
        return shown(self._client.datasets.wait(made.id, max_wait=WATCH_SECONDS))

    def preview_dataset(self, dataset_id: DatasetId, rows: Annotated[int, Field(ge=1, le=20)] = 3) -> dict[str, Any]:
        """How the first rows are understood and what a model would learn of them; unusable rows, with the reason."""
        return shown(self._client.datasets.preview_stored(dataset_id, rows=rows))

    def estimate_job(
        self,
        dataset_id: DatasetId,
        budget: BudgetText,
        targets: Targets | None = None,
        settings: Settings | None = None,
    ) -> dict[str, Any]:
        """How long a job would take and whether it fits; makes nothing. Arguments as for start_job."""
        return shown(self._client.jobs.estimate(dataset_id, budget, **asked(targets, settings)))

    def start_job(
        self,
        dataset_id: DatasetId,
        budget: BudgetText,
        targets: Targets | None = None,
        settings: Settings | None = None,
    ) -> dict[str, Any]:
        """Queue a job that selects rows of a data set, by default for targets. Follow it with watch_job."""
        return shown(self._client.jobs.submit(dataset_id, budget, **asked(targets, settings)))

    def watch_job(self, job_id: JobId) -> dict[str, Any]:
        """Wait for a job for up to 50 seconds; its state, progress, and result once it ended. Call again to go on."""
        try:
            job = self._client.jobs.wait(job_id, max_wait=WATCH_SECONDS)
        except WaitTimeoutError:
            job = self._client.jobs.get(job_id)
        return shown(job)

    def list_selection(
        self, job_id: JobId, limit: Annotated[int, Field(ge=1, le=200)] = 20
    ) -> dict[str, list[dict[str, Any]]]:
        """The selected rows in the order of their selection, each with its target, relevance, gain and conflict."""
        return {"selected": [shown(row) for row in islice(self._client.jobs.selection(job_id), limit)]}

    def explain_row(
        self, job_id: JobId, row: Annotated[int, Field(ge=0, description="Row of the data set, from 0.")]
    ) -> dict[str, Any]:
        """Why a row of the data set was selected, or not: a sentence, the numbers, and the texts of what is near it."""
        return shown(self._client.jobs.row(job_id, row))

    def cancel_job(self, job_id: JobId) -> dict[str, Any]:
        """Stop a job; what it has selected so far is kept."""
        return shown(self._client.jobs.cancel(job_id))

    def retry_job(self, job_id: JobId) -> dict[str, Any]:
        """Queue a job that failed, was cancelled or expired again, as another job; what is measured is reused."""
        return shown(self._client.jobs.retry(job_id))

    def fetch_files(
        self, job_id: JobId, folder: Annotated[str, Field(description="Where the files go; made when missing.")]
    ) -> dict[str, str]:
        """Download the result of a job: selected rows, ranking, card, provenance. Every file's digest is checked."""
        found = self._client.jobs.download(job_id, Path(folder).expanduser())
        return {name: str(path) for name, path in found.items()}


def asked(targets: Targets | None, settings: Settings | None) -> dict[str, Any]:
    """The fields of a job beside data set and budget."""
    return {**(settings or {}), **({"targets": targets} if targets else {})}


def shown(answer: BaseModel) -> dict[str, Any]:
    """An answer as JSON, without the fields that are not set."""
    return answer.model_dump(mode="json", exclude_none=True)
