"""What is known about a run beside its numbers: the data, the proxy, the code, the machine, the times."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from spice_select.config import RunConfig

if TYPE_CHECKING:
    from spice_select.ingest import DatasetManifest, IntakeOptions
    from spice_select.models.proxy import Proxy

LIBRARIES = ("numpy", "pyarrow", "safetensors", "tokenizers", "torch", "transformers")
"""Libraries whose version can change a number of the result."""


@dataclass(frozen=True)
class ResultFile:
    """A file of the result.

    Attributes:
        name: File name inside the result folder.
        media_type: Its media type.
        bytes: Its size in bytes.
        sha256: Digest (hex) of its bytes.
    """

    name: str
    media_type: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class SourceFacts:
    """Where the bytes of a data set were fetched from.

    Attributes:
        uri: Address without secrets, pinned where the source knows versions.
        revision: Commit of a hub data set.
        num_files: Files it was.
        about: What was asked for beside the address, such as configuration and split.
    """

    uri: str
    revision: str | None = None
    num_files: int = 1
    about: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Mapping[str, Any] | None, resolved: Mapping[str, Any] | None) -> SourceFacts | None:
        """The facts of a source as the service keeps it; None for bytes that were sent."""
        if source is None or resolved is None:
            return None
        about = {name: source[name] for name in ("config", "split") if source.get(name)}
        return cls(resolved["uri"], resolved.get("revision"), resolved.get("num_files", 1), about)


@dataclass(frozen=True)
class DatasetFacts:
    """What the result says about the data set it was chosen from.

    Attributes:
        name: Name for people.
        uri: ``spice:dataset/<id or file name>``.
        sha256: Digest (hex) of the bytes as they were registered.
        bytes: Size of those bytes.
        rows_sha256: Digest (hex) over the digests of the usable rows, in order.
        num_rows: Rows in the source.
        num_usable: Rows that can be selected from, before the proxy's tokenizer saw them.
        container: ``jsonl``, ``json``, ``csv`` or ``parquet``.
        form: Record form.
        columns: Role to column.
        source: Where the bytes were fetched from; None where they were sent.
        reading: ``encoding`` and ``split``, where the owner of the data said which.
    """

    name: str
    uri: str
    sha256: str
    bytes: int
    rows_sha256: str
    num_rows: int
    num_usable: int
    container: str
    form: str
    columns: Mapping[str, str]
    source: SourceFacts | None = None
    reading: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_manifest(
        cls, manifest: DatasetManifest, *, name: str, reference: str, options: IntakeOptions | None = None
    ) -> DatasetFacts:
        """The facts of a data set that went through the intake.

        Args:
            manifest: The intake's manifest.
            name: Name for people.
            reference: Id of the data set, or its file name; becomes part of the URI.
            options: How it was to be read.
        """
        return cls(
            name=name,
            uri=f"spice:dataset/{quote(reference, safe='')}",
            sha256=manifest.sha256,
            bytes=manifest.bytes,
            rows_sha256=manifest.rows_sha256,
            num_rows=manifest.num_rows,
            num_usable=manifest.num_usable,
            container=manifest.container,
            form=manifest.format,
            columns={str(role): column for role, column in manifest.columns.items()},
            reading=reading_of({} if options is None else options.model_dump()),
        )


def reading_of(asked: Mapping[str, Any]) -> dict[str, str]:
    """What cannot be seen in the rows but decides which they are, of the options of an intake."""
    return {name: asked[name] for name in ("encoding", "split") if asked.get(name) is not None}


@dataclass(frozen=True)
class ProxyFacts:
    """The proxy model that was really used.

    Attributes:
        model: Name as asked for.
        revision: Hub commit, or content hash of the folder.
        weights_sha256: Digest (hex) of the weights; None where they were not needed.
        tokenizer_sha256: Digest (hex) of the tokenizer.
        adapter_sha256: Digest (hex) of the adapter that was merged into it; None without one.
    """

    model: str
    revision: str
    weights_sha256: str | None
    tokenizer_sha256: str
    adapter_sha256: str | None = None

    @classmethod
    def of(cls, proxy: Proxy) -> ProxyFacts:
        """The facts of a loaded proxy."""
        return cls(proxy.name, proxy.revision, proxy.weights_sha256, proxy.tokenizer_sha256, proxy.adapter_sha256)


@dataclass(frozen=True)
class WarmupFacts:
    """The weights that a warm-up left on the proxy model.

    Attributes:
        fingerprint: Name of everything that decided them.
        sha256: Digest (hex) of the file that holds them.
        steps: Optimiser steps.
        rows: Rows of the pool that were seen.
        tokens: Tokens that went through the model.
        last_loss: Mean loss over the last tenth of the steps, nats per token.
    """

    fingerprint: str
    sha256: str
    steps: int
    rows: int
    tokens: int
    last_loss: float

    @classmethod
    def of(cls, fingerprint: str, sha256: str, result: Mapping[str, Any]) -> WarmupFacts:
        """The facts of a warm-up as its file tells them."""
        return cls(fingerprint, sha256, result["steps"], result["rows"], result["tokens"], result["last_loss"])


@dataclass(frozen=True)
class PrefilterFacts:
    """A cheap ranking by which some rows of the pool got no gradient.

    Attributes:
        fingerprint: Name of everything that decided it.
        sha256: Digest (hex) of the file that holds it.
        method: How rows were ranked.
        keep: Share of the usable rows that was to be kept.
        ranked: Rows that were ranked.
        kept: Those of them that got gradients.
        measured: Rows that got gradients, with target rows and rows that were settled beforehand.
        emptied: Groups of the quotas of which no row was kept.
    """

    fingerprint: str
    sha256: str
    method: str
    keep: float
    ranked: int
    kept: int
    measured: int
    emptied: Sequence[str] = ()


@dataclass(frozen=True)
class BaseSelectionFacts:
    """A choice that was owned already, to which this one adds.

    Attributes:
        uri: ``spice:job/<id>`` or ``spice:result/<folder>``.
        ranking_sha256: Digest (hex) of its ``ranking.parquet``.
    """

    uri: str
    ranking_sha256: str


@dataclass(frozen=True)
class TargetFacts:
    """A data set that says what the model should get better at, or must not get worse at.

    Attributes:
        name: Name of the target.
        weight: Its share of the picks, relative to the other targets; for a protected set, the factor of its charge.
        rows: Target rows that have a gradient.
        uri: ``spice:dataset/<id or file name>``.
        sha256: Digest (hex) of its bytes.
        rows_sha256: Digest (hex) over the digests of its usable rows, in order.
        gradient_fingerprint: Name of its gradient set.
    """

    name: str
    weight: float
    rows: int
    uri: str
    sha256: str
    rows_sha256: str
    gradient_fingerprint: str


@dataclass(frozen=True)
class RunFacts:
    """Everything a provenance statement says beside the files.

    Attributes:
        dataset: The data set.
        proxy: The proxy model.
        config: The resolved settings.
        gradient_fingerprint: Name of the gradient set the choice was made on.
        gradients_reused: Whether an earlier run had computed that gradient set.
        halvings: How often a batch was halved for lack of memory while computing it.
        device: Where the gradients were computed, such as ``cpu`` or the name of a GPU.
        invocation_id: Job id, or another name of this run.
        started_on: When the run started (UTC).
        finished_on: When the choice was made, before its files were written (UTC).
        builder: Who ran it.
        given: The choices that were owned already, the latest first.
        targets: What the model should get better at.
        protected: What must not get worse.
        excluded: How many rows of the pool were no candidates, by code.
        decontamination: With which sets the pool was compared, how, and which rows left it; None where with none.
        warmup: The warm-up of the proxy model, if any.
        prefilter: Which rows got gradients; None where all did.
        code_commit: Git commit of the code, where it is known.
        libraries: Library name to version.
    """

    dataset: DatasetFacts
    proxy: ProxyFacts
    config: RunConfig
    gradient_fingerprint: str
    gradients_reused: bool
    halvings: int
    device: str
    invocation_id: str
    started_on: datetime
    finished_on: datetime
    builder: Literal["service", "library"]
    given: Sequence[BaseSelectionFacts] = ()
    targets: Sequence[TargetFacts] = ()
    protected: Sequence[TargetFacts] = ()
    excluded: Mapping[str, int] = field(default_factory=dict)
    decontamination: Mapping[str, Any] | None = None
    warmup: WarmupFacts | None = None
    prefilter: PrefilterFacts | None = None
    code_commit: str | None = field(default_factory=lambda: find_code_commit())
    libraries: Mapping[str, str] = field(default_factory=lambda: library_versions())


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries that can change a number of the result; imports none of them."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def find_code_commit() -> str | None:
    """Git commit of the running code: ``SPICE_CODE_COMMIT``, or the head of the checkout it runs from.

    The head says nothing about changes that were not committed. None where neither is there.
    """
    given = os.environ.get("SPICE_CODE_COMMIT", "")
    if is_commit(given):
        return given
    # Read without running git: the checkout may belong to another user, or git may not be installed.
    folder = Path(__file__).resolve().parents[2] / ".git"
    try:
        shared = folder
        if folder.is_file():  # a further work tree: it has a head of its own and shares the references
            folder = folder.parent / folder.read_text(encoding="utf-8").strip().removeprefix("gitdir: ")
            shared = folder / (folder / "commondir").read_text(encoding="utf-8").strip()
        head = (folder / "HEAD").read_text(encoding="utf-8").strip()
        if head.startswith("ref: "):
            head = _resolve_reference(shared, head.removeprefix("ref: "))
    except OSError:
        return None
    return head if is_commit(head) else None


def _resolve_reference(folder: Path, reference: str) -> str:
    loose = folder / reference
    if loose.is_file():
        return loose.read_text(encoding="utf-8").strip()
    for line in (folder / "packed-refs").read_text(encoding="utf-8").splitlines():
        if line.endswith(f" {reference}"):
            return line.split(" ", 1)[0]
    return ""


def is_commit(text: str) -> bool:
    """Whether a text is the full name of a git commit."""
    return re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text) is not None
