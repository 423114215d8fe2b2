"""Calls about data sets."""

# Generated from ../_async/datasets.py by `make client`: change that file instead.

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Unpack
from urllib.parse import quote

from spice_select.client._sync.transport import UPLOAD_SECONDS, Resource
from spice_select.client._sync.uploads import PARTS_ABOVE_BYTES, OnBytes, push_in_parts
from spice_select.client.answers import parse
from spice_select.client.filters import ListFilters, filter_query
from spice_select.client.models import Dataset, DatasetRow, RejectedRow
from spice_select.client.preview_models import DatasetPreview
from spice_select.client.request_bodies import SourceLike, as_json, form_fields
from spice_select.ingest.source_urls import AnySource, parse_source

PATH = "/v1/datasets"


def dataset_path(dataset_id: str) -> str:
    """Path of a data set."""
    return f"{PATH}/{quote(dataset_id, safe='')}"


class Datasets(Resource):
    """Calls about data sets."""

    def push(
        self,
        source: str | Path | bytes,
        *,
        name: str | None = None,
        format: str | None = None,
        columns: Mapping[str, str] | None = None,
        encoding: str | None = None,
        metadata: Mapping[str, str] | None = None,
        in_parts: bool | None = None,
        part_bytes: int | None = None,
        on_bytes: OnBytes | None = None,
    ) -> Dataset:
        """Send a file as a new data set; it is validated afterwards, see ``wait``.

        However often a request is repeated, one data set is made.

        Args:
            source: File, or its bytes.
            name: Name for people; the file's name when left out.
            format: Record format, when it should not be detected.
            columns: Role to column.
            encoding: Encoding of a file of text, when it should not be detected.
            metadata: Key-values of your own.
            in_parts: Whether to send it in parts, so that a later call continues where this one breaks off; None does
                so for files above 64 MiB.
            part_bytes: Bytes of a part; None leaves it to the service.
            on_bytes: Called with the bytes that have arrived and those of the whole, of a file in parts.
        """
        source = Path(source) if isinstance(source, str) else source
        if name is None and isinstance(source, Path):
            name = source.name
        size = source.stat().st_size if isinstance(source, Path) else len(source)
        about = {
            "name": name,
            "format": format,
            "columns": columns or None,
            "encoding": encoding,
            "metadata": metadata or None,
        }
        if in_parts or (in_parts is None and size > PARTS_ABOVE_BYTES):
            return push_in_parts(self._transport, source, about, part_bytes, on_bytes)
        response = self._transport.send(
            "POST",
            PATH,
            headers={"Idempotency-Key": str(uuid.uuid4())},
            upload=(name or "upload", source),
            data=form_fields(about),
            read_timeout=UPLOAD_SECONDS,
        )
        return parse(response, Dataset)

    def append(
        self,
        dataset_id: str,
        source: str | Path | bytes,
        *,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Dataset:
        """Make a new version of a data set: its rows and, behind them, those of a file that is read in the same way.

        The old version stays. Gradients of its rows serve the new one too.

        Args:
            dataset_id: The data set.
            source: File with the new rows, or its bytes.
            name: Name for people; that of the old one when left out.
            metadata: Key-values of your own.
        """
        source = Path(source) if isinstance(source, str) else source
        response = self._transport.send(
            "POST",
            f"{dataset_path(dataset_id)}/append",
            headers={"Idempotency-Key": str(uuid.uuid4())},
            upload=(source.name if isinstance(source, Path) else "upload", source),
            data=form_fields({"name": name, "metadata": metadata or None}),
            read_timeout=UPLOAD_SECONDS,
        )
        return parse(response, Dataset)

    def from_source(
        self,
        source: SourceLike,
        *,
        name: str | None = None,
        format: str | None = None,
        columns: Mapping[str, str] | None = None,
        encoding: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Dataset:
        """Have the service fetch a data set from where it lies; it is validated afterwards, see ``wait``.

        Args:
            source: An address, ``hf://datasets/ORG/NAME@REVISION``, ``https://...``, ``s3://BUCKET/KEY`` or
                ``file:PATH`` on a disk of the service, or its fields: ``{"type": "hf", "repo": ..., "split": ...}``.
            name: Name for people; the address when left out.
            format: Record format, when it should not be detected.
            columns: Role to column.
            encoding: Encoding of a file of text, when it should not be detected.
            metadata: Key-values of your own.
        """
        about = {"name": name, "format": format, "columns": columns, "encoding": encoding, "metadata": metadata}
        body: dict[str, Any] = {"source": parse_source(source).model_dump(mode="json", exclude_unset=True)}
        body |= {field: value for field, value in about.items() if value}
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        return parse(self._transport.send("POST", PATH, headers=headers, json=body), Dataset)

    def preview(
        self,
        source: str | Path | bytes | Mapping[str, Any] | AnySource,
        *,
        format: str | None = None,
        columns: Mapping[str, str] | None = None,
        encoding: str | None = None,
        rows: int | None = None,
        proxy: str | None = None,
        max_length: int | None = None,
        objective: str | None = None,
    ) -> DatasetPreview:
        """How a file would be read, and what would be learned of its first rows; the service keeps nothing.

        Args:
            source: File, its bytes, or where it lies as in ``from_source``.
            format: Record format, when it should not be detected.
            columns: Role to column.
            encoding: Encoding of a file of text, when it should not be detected.
            rows: How many usable and how many rejected rows are shown.
            proxy: Whose chat template renders them; the service's own model when left out.
            max_length: Longest sequence, tokens.
            objective: What is learned of preference data: ``sft_chosen`` or ``dpo``.
        """
        query = as_json({"rows": rows, "proxy": proxy, "max_length": max_length, "objective": objective})
        about = {"format": format, "columns": columns or None, "encoding": encoding}
        if isinstance(source, str) and "://" not in source and not source.startswith("file:"):
            source = Path(source)
        if isinstance(source, Path | bytes):
            sent: dict[str, Any] = {
                "upload": (source.name if isinstance(source, Path) else "upload", source),
                "data": form_fields(about),
            }
        else:
            lies = parse_source(source).model_dump(mode="json", exclude_unset=True)
            sent = {"json": {"source": lies, **{name: value for name, value in about.items() if value}}}
        response = self._transport.send(
            "POST", f"{PATH}:preview", params=query or None, read_timeout=UPLOAD_SECONDS, **sent
        )
        return parse(response, DatasetPreview)

    def preview_stored(
        self,
        dataset_id: str,
        *,
        rows: int | None = None,
        proxy: str | None = None,
        max_length: int | None = None,
        objective: str | None = None,
    ) -> DatasetPreview:
        """What would be learned of the first rows of a data set that is ready; arguments as of ``preview``."""
        response = self._transport.send(
            "GET",
            f"{dataset_path(dataset_id)}/preview",
            params=as_json({"rows": rows, "proxy": proxy, "max_length": max_length, "objective": objective}) or None,
            read_timeout=UPLOAD_SECONDS,
        )
        return parse(response, DatasetPreview)

    def get(self, dataset_id: str) -> Dataset:
        """One data set."""
        return self._transport.fetch(dataset_path(dataset_id), Dataset)

    def list(
        self, *, status: str | None = None, internal: bool = False, **filters: Unpack[ListFilters]
    ) -> Iterator[Dataset]:
        """Every data set, newest first unless ``sort`` says otherwise; filters as in ``jobs.list``.

        With ``internal`` also the target rows that jobs brought along.
        """
        return self._transport.pages(
            PATH, Dataset, status=status, include="internal" if internal else None, **filter_query(**filters)
        )

    def delete(self, dataset_id: str) -> None:
        """Delete a data set that no running job uses."""
        self._transport.delete(dataset_path(dataset_id))

    def rejected(self, dataset_id: str) -> Iterator[RejectedRow]:
        """Every row that cannot be used, and why."""
        return self._transport.pages(f"{dataset_path(dataset_id)}/rejected", RejectedRow, limit=1000)

    def rows(self, dataset_id: str) -> Iterator[DatasetRow]:
        """Every usable row."""
        return self._transport.pages(f"{dataset_path(dataset_id)}/rows", DatasetRow)

    def wait(
        self,
        dataset_id: str,
        *,
        on_progress: Callable[[Dataset], object] | None = None,
        max_wait: float | None = None,
    ) -> Dataset:
        """Wait until a data set is ready or invalid.

        Args:
            dataset_id: Which.
            on_progress: Called with the data set after each look.
            max_wait: Longest wait, seconds; then ``WaitTimeoutError``.
        """
        return self._transport.wait(dataset_path(dataset_id), Dataset, on_progress, max_wait)
