"""Errors of the service and the closed catalogue of problem codes.

    ServiceError(code)                 any entry of PROBLEMS; carries detail, pointer and headers
      NotFoundError                    not-found
      ConflictError                    conflict-state

Library errors (``spice_select.errors``) keep their own codes, which stand in the same catalogue.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One entry of the catalogue.

    Attributes:
        title: Short name, the same for every occurrence.
        status: HTTP status of an answer with this code.
        meaning: What happened and what to do about it, for the page at ``/problems/{slug}``.
        retryable: Whether the same request or job may succeed later.
    """

    title: str
    status: int
    meaning: str
    retryable: bool = False


PROBLEMS: dict[str, Problem] = {
    "validation-error": Problem(
        "The request is not valid", 422, "A field is missing, unknown or has a wrong value; `errors` points at each."
    ),
    "malformed-request": Problem(
        "The request cannot be read", 400, "The body is not JSON in UTF-8, names a key twice, or is nested too deeply."
    ),
    "unauthenticated": Problem(
        "No valid API key",
        401,
        "Send a key that is neither expired nor revoked, as Bearer or as the password of Basic.",
    ),
    "forbidden": Problem("Not allowed", 403, "The API key lacks the scope that `detail` names."),
    "link-invalid": Problem("The link does not open", 403, "It has expired or was changed; make a new one."),
    "not-found": Problem("Not found", 404, "There is nothing at this address, or it belongs to another project."),
    "method-not-allowed": Problem(
        "Method not allowed", 405, "The address exists; the `Allow` header lists its methods."
    ),
    "conflict-state": Problem("Not possible in this state", 409, "The resource is in a state that rules this out."),
    "dataset-not-ready": Problem(
        "Data set not ready", 409, "The data set is still being validated; wait as `Retry-After` says.", retryable=True
    ),
    "job-in-use": Problem("Job in use", 409, "A job or an evaluation that has not ended needs the job's choice."),
    "dataset-in-use": Problem("Data set in use", 409, "A job or an evaluation that has not ended uses the data set."),
    "idempotency-key-invalid": Problem(
        "Idempotency-Key cannot be used", 400, "The key must be 1 to 255 visible ASCII characters."
    ),
    "idempotency-key-reused": Problem(
        "Idempotency-Key used for another request", 422, "The key was seen with another body; take a new key."
    ),
    "idempotency-in-progress": Problem(
        "A request with this Idempotency-Key is running",
        409,
        "The first request has not been answered yet; repeat it as `Retry-After` says.",
        retryable=True,
    ),
    "too-many-streams": Problem(
        "Too many event streams",
        429,
        "The project has as many event streams open as it may; close one or come back as `Retry-After` says.",
        retryable=True,
    ),
    "too-many-previews": Problem(
        "Too many previews at a time",
        429,
        "The process makes as many previews as it may; come back as `Retry-After` says.",
        retryable=True,
    ),
    "precondition-failed": Problem(
        "Changed in the meantime", 412, "`If-Match` names another state of the resource; read it again."
    ),
    "payload-too-large": Problem("Body too large", 413, "More bytes were sent than the service accepts."),
    "source-not-allowed": Problem(
        "Source not allowed",
        422,
        "This service does not fetch data sets from there; its operator decides what it may reach.",
    ),
    "source-not-found": Problem(
        "Nothing at the source",
        422,
        "The source has no such data set, version, split, file or object, or does not show it.",
    ),
    "source-unreachable": Problem(
        "Source unreachable",
        503,
        "The other server did not answer as expected while the data set was fetched.",
        retryable=True,
    ),
    "digest-mismatch": Problem(
        "The bytes do not match the digest", 422, "Their sha256 differs from the one that was sent; send them again."
    ),
    "parts-missing": Problem(
        "Parts are missing", 409, "The upload is not whole; `GET` of it says which parts have arrived."
    ),
    "too-many-uploads": Problem(
        "Too many uploads at a time",
        429,
        "The project has as many uploads in parts open as it may; complete or delete one.",
        retryable=True,
    ),
    "quota-exceeded": Problem(
        "Quota exceeded",
        429,
        "The project has as many data sets, or as much waiting work, as it may; `quota` says how much.",
        retryable=True,
    ),
    "quota-bytes": Problem(
        "Quota of stored bytes exceeded",
        507,
        "The project has as many stored bytes as it may; `quota` says how many. Delete data sets or jobs.",
        retryable=True,
    ),
    "range-not-satisfiable": Problem(
        "Range outside of the file", 416, "`Content-Range` says how many bytes the file has."
    ),
    "unsupported-media-type": Problem(
        "Unsupported media type", 415, "The content type or encoding is not accepted here."
    ),
    "budget-exceeds-pool": Problem(
        "Budget exceeds the pool",
        422,
        "The budget asks for more samples or tokens than the data set has, or for less than one sample.",
    ),
    "prefix-undefined": Problem(
        "No smaller budget to cut to",
        422,
        "`k` cuts a ranking that one greedy made in one pool: not windows or parts, floors of quotas, or tokens.",
    ),
    "evidence-unavailable": Problem(
        "No evidence for each row",
        409,
        "The job compared no rows in one pool: a periodic or partitioned selection, or one of an earlier release.",
    ),
    "unknown-proxy": Problem("Unknown proxy model", 422, "No such built-in model, hub id, folder or revision."),
    "proxy-not-allowed": Problem(
        "Proxy model not allowed",
        422,
        "The model is not among those of `SPICE_ALLOWED_PROXIES`, nor a folder below `SPICE_PROXY_ROOT`; `detail` "
        "names what is allowed.",
    ),
    "unsafe-proxy": Problem(
        "Unsafe proxy model", 422, "The weights are not safetensors, or the model would have to run its own code."
    ),
    "unsupported-proxy": Problem(
        "Unsupported proxy model", 422, "Not a causal language model with linear layers to take gradients of."
    ),
    "proxy-invalid": Problem("Proxy model cannot be used", 422, "The proxy model could not be loaded."),
    "template-limit": Problem(
        "The chat template takes too much",
        422,
        "The chat template or the tokenizer of the proxy model took more memory or time than the service gives it.",
    ),
    "proxy-changed": Problem(
        "Proxy model changed", 422, "The model's files are no longer the ones the job was made for; submit a new job."
    ),
    "hub-unreachable": Problem(
        "Model hub unreachable",
        503,
        "The hub did not answer when a revision or a data set was requested.",
        retryable=True,
    ),
    "given-job-not-finished": Problem(
        "The given job is not finished",
        409,
        "The job whose selection is the base has not ended; wait for it as `Retry-After` says.",
        retryable=True,
    ),
    "given-job-unusable": Problem(
        "The given job cannot be added to",
        422,
        "The job of `given_job` ended without a choice, or chose from rows that the data set does not begin with, or "
        "by other gradients: proxy and gradient settings must be equal.",
    ),
    "holdout-unusable": Problem(
        "These rows cannot be held out",
        422,
        "An evaluation needs two or more held-out rows: of another data set, or rows that the job "
        "excludes. Held-out rows must not come from the candidate pool.",
    ),
    "url-not-allowed": Problem(
        "URL not allowed",
        422,
        "The service sends requests to public https addresses and to those its operator listed, and to no others.",
    ),
    "download-limit": Problem(
        "More than may be downloaded", 422, "The other server sent more bytes, or took more time, than allowed."
    ),
    "config-invalid": Problem("Settings contradict each other", 422, "See `detail` for the two that do."),
    "does-not-fit": Problem(
        "The job does not fit",
        422,
        "Its gradients need more memory or disk space than is available; lower `gradients.sketch_dim`.",
    ),
    "pool-invalid": Problem("The pool cannot be selected from", 422, "See `detail`."),
    "pool-empty": Problem("The pool is empty", 422, "No usable sample is left after exclusions."),
    "gradients-not-finite": Problem("Gradients are not finite", 422, "NaN or infinity among the gradients."),
    "dataset-not-kept": Problem(
        "Nothing can be appended to the data set", 422, "Its bytes are not kept here, or are an archive."
    ),
    "dataset-invalid": Problem("The data set cannot be used", 422, "Validation failed; `errors` points at the rows."),
    "dataset-empty": Problem("The data set is empty", 422, "The file has no bytes or no rows."),
    "dataset-format-unknown": Problem(
        "Unknown file format", 422, "Not JSON Lines, a JSON array, Parquet or CSV, plain or gzip."
    ),
    "dataset-files-differ": Problem(
        "The files are of different kinds",
        422,
        "Files of one source have to be of one format, Parquet files of one schema.",
    ),
    "dataset-form-unknown": Problem(
        "Unknown record form", 422, "The columns match no known record form; say which column is what with `columns`."
    ),
    "dataset-columns-ambiguous": Problem(
        "Two readings of the columns",
        422,
        "The columns can be read in two ways; `detail` has both and the `columns` to send for each.",
    ),
    "dataset-column-missing": Problem("Column missing", 422, "`columns` names a column that no row has."),
    "dataset-truncated": Problem("The file is truncated", 422, "The compressed or columnar file ends too early."),
    "dataset-invalid-json": Problem("Invalid JSON", 422, "A line or element is not valid JSON; `detail` names it."),
    "dataset-invalid-csv": Problem("Invalid CSV", 422, "The table cannot be read as CSV; `detail` names the line."),
    "dataset-duplicate-column": Problem(
        "Column named twice", 422, "Two columns have the same name, so a row cannot say which is meant."
    ),
    "dataset-encoding": Problem("Not UTF-8", 422, "The text is in another encoding than UTF-8."),
    "dataset-too-large": Problem(
        "The data set is too large", 422, "More rows, columns or bytes than the limits allow."
    ),
    "dataset-unreadable": Problem(
        "The file cannot be read", 422, "The parser ran out of memory or time or crashed on this file."
    ),
    "dataset-no-usable-rows": Problem("No usable row", 422, "Every row was rejected; the list says why."),
    "artifact-invalid": Problem("A stored file cannot be used", 500, "A stored artifact is unusable.", retryable=True),
    "artifact-corrupt": Problem(
        "A stored file is corrupt", 500, "Bytes of a stored artifact do not match their digest.", retryable=True
    ),
    "artifact-mismatch": Problem(
        "A stored file does not match", 500, "A stored artifact was made with other settings."
    ),
    "store-unreachable": Problem(
        "The store does not answer",
        503,
        "Where gradients are kept does not answer, or does not let the workers in.",
        retryable=True,
    ),
    "secret-unusable": Problem(
        "A secret cannot be used", 503, "A secret in the data folder is too short to protect what it signs."
    ),
    "artifact-lost": Problem("A stored file is gone", 500, "A stored artifact is missing.", retryable=True),
    "worker-killed": Problem(
        "The worker was killed repeatedly", 500, "Several workers died on this unit, most likely for lack of memory."
    ),
    "out-of-memory": Problem("Out of memory", 500, "The device has too little memory for even the smallest batch."),
    "device-lost": Problem(
        "The device failed", 500, "The accelerator failed or vanished; another process takes the unit.", retryable=True
    ),
    "attempts-exhausted": Problem("All attempts failed", 500, "The unit failed as often as allowed; see `detail`."),
    "deadline-exceeded": Problem("Deadline exceeded", 409, "The job's deadline passed before it had a result."),
    "rate-limited": Problem(
        "Too many requests",
        429,
        "The API key has used up its requests for now; `RateLimit` and `Retry-After` say when there are more.",
        retryable=True,
    ),
    "newer-settings": Problem(
        "Settings of a newer release",
        409,
        "A newer release of the service wrote settings that this process cannot read: another one may, as may a "
        "worker of that release; units that meet none within their attempts fail with this.",
        retryable=True,
    ),
    "not-ready": Problem(
        "Not ready", 503, "The service cannot serve yet; `errors` names the failing check.", retryable=True
    ),
    "unavailable": Problem("Temporarily unavailable", 503, "The database does not answer; try again.", retryable=True),
    "storage-full": Problem(
        "Storage full",
        507,
        "The disk of the service is full; nothing stored was harmed. It may succeed once the operator has made room.",
        retryable=True,
    ),
    "internal": Problem("Internal error", 500, "A fault of the service; quote the `request_id`.", retryable=True),
}


def storage_is_full(error: BaseException) -> bool:
    """Whether an error says that a disk, or the part of it that the service may use, has no room left."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


class ServiceError(Exception):
    """A request or a unit that cannot be carried out, for a reason in the catalogue.

    Args:
        code: Slug in ``PROBLEMS``.
        detail: One sentence for a person.
        pointer: JSON Pointer in fragment form to what is wrong.
        errors: Several findings, each ``{"detail", "pointer"}``.
        headers: Extra response headers, such as ``Retry-After``.
        members: Further members of the answer, as the standard of this problem names them.

    Attributes:
        reasons: How many rows there were of each reason, where an error is about many.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        pointer: str | None = None,
        errors: list[dict[str, Any]] | None = None,
        headers: dict[str, str] | None = None,
        members: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors if errors is not None else ([{"detail": detail, "pointer": pointer}] if pointer else [])
        self.headers = headers or {}
        self.members = members or {}
        self.reasons: Mapping[str, int] = self.members.get("reasons", {})


class NotFoundError(ServiceError):
    """There is no such resource in this project."""

    def __init__(self, what: str) -> None:
        super().__init__("not-found", f"there is no {what}")


class ConflictError(ServiceError):
    """The resource's state rules this out."""

    def __init__(self, detail: str, *, code: str = "conflict-state", headers: dict[str, str] | None = None) -> None:
        super().__init__(code, detail, headers=headers)


def stored_problem(
    code: str, detail: str, errors: list[dict[str, Any]] | None = None, reasons: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """The problem object that a failed job or an invalid data set keeps (its ``type`` is filled in when shown)."""
    problem = PROBLEMS.get(code, PROBLEMS["internal"])
    return {
        "type": f"/problems/{code}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "code": code,
        "retryable": problem.retryable,
        "errors": (errors or [])[:20],
        **({"reasons": dict(reasons)} if reasons else {}),
    }
