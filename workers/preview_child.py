"""The child process behind a preview: fetches, reads and renders the first rows of a data set, and limits itself.

``python -m workers.preview_child`` takes a ``PreviewTask`` from its standard input and says one line of JSON for each
step: ``{"phase": ...}`` while it works, then ``{"preview": ...}`` or ``{"problem": ...}``. The API starts it by name,
so that no tokenizer is ever imported there. No torch is imported here either: a tokenizer does without, and a process
of half a gigabyte of address space can be held to a limit.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import ServiceError
from app.services.datasets.preview_task import PreviewTask
from app.settings import Settings
from spice_select.errors import SpiceError, TemplateLimitError
from workers.tokenizer_limits import do_without_torch, limit_rendering

if TYPE_CHECKING:
    from spice_select.ingest import DatasetManifest, PoolRow

NO_TOKENIZER = (
    "the text is not shown: this process has no tokenizer; the server's package needs the extra preview for that"
)


def main() -> None:
    """Do the task and say what came out."""
    task = PreviewTask.model_validate_json(sys.stdin.read())
    do_without_torch(task.proxy.model)
    try:
        with tempfile.TemporaryDirectory(prefix="spice-preview-") as folder:
            _say(preview=_preview(task, Path(folder)))
    except (ServiceError, SpiceError) as error:
        said = {"code": error.code, "detail": error.detail, "errors": error.errors, "reasons": dict(error.reasons)}
        _say(problem={**said, "column_names": list(getattr(error, "column_names", ()))})


def _say(**word: Any) -> None:
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()


def _preview(task: PreviewTask, folder: Path) -> dict[str, Any]:
    manifest, rows, rejected = (None, _stored(task), []) if task.shards else _read(task, folder)
    _say(phase="rendering")
    shown, notes = _render(task, rows)
    facts = {} if manifest is None else manifest.model_dump(mode="json", exclude={"shards", "source_shards"})
    return {**facts, "rows": shown, "rejected_rows": rejected, "notes": notes}


def _stored(task: PreviewTask) -> list[PoolRow]:
    """The first rows of a data set that was read before."""
    from spice_select.ingest import iter_rows

    return list(islice((row for path in task.shards for row in iter_rows(Path(path))), task.rows))


def _read(task: PreviewTask, folder: Path) -> tuple[DatasetManifest, list[PoolRow], list[dict[str, Any]]]:
    from spice_select.pipeline.preview import read_first

    source = Path(task.path)
    if task.source is not None:
        source = _fetched(task, folder)
    _say(phase="reading")
    return read_first(source, task.options, task.limits, rows=task.rows)


def _fetched(task: PreviewTask, folder: Path) -> Path:
    """The files of a source, brought here."""
    from spice_select.ingest.source_urls import parse_source
    from workers.sources import Meter, fetch

    _say(phase="fetching")
    source = folder / "source"
    source.mkdir()
    settings = Settings(_env_file=None, **task.source_settings)
    meter = Meter(task.limits.max_bytes, task.seconds, lambda _done, _total: None, lambda: False)
    fetch(parse_source(task.source or {}), source, settings, meter, pinned=None, pin=lambda _revision: None)
    return source


def _render(task: PreviewTask, rows: list[PoolRow]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows as the proxy's tokenizer renders them, under a limit of memory.

    Raises:
        TemplateLimitError: It needed more.
    """
    from spice_select.pipeline.preview import render_rows, unrendered

    try:
        from spice_select.models.tokenizer import proxy_tokenizer
    except ImportError:
        return [asdict(unrendered(row)) for row in rows], [NO_TOKENIZER]
    limit_rendering(task.proxy.model, task.memory_bytes, task.template_seconds)
    try:
        shown, notes = render_rows(rows, proxy_tokenizer(task.proxy), task.gradients)
    except MemoryError:
        raise TemplateLimitError(task.proxy.model, f"{task.memory_bytes} bytes of memory") from None
    return [asdict(row) for row in shown], notes


if __name__ == "__main__":
    main()
