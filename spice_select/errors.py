"""Everything that can go wrong in the library, as one tree. Each class has a stable ``code``.

    SpiceError
      ConfigError                        config-invalid            a setting that contradicts another
      BudgetError                        budget-exceeds-pool       more samples asked for than the pool holds
      PoolError
        EmptyPoolError                   pool-empty                no usable sample left
        NonFiniteGradientError           gradients-not-finite      NaN or infinity among the gradients
      DatasetError                       dataset-invalid           the data set as a whole cannot be read
        RowError                         (code of the reason)      one record of it cannot be used
      Stopped                            stopped                   somebody asked for the work to stop
      ProxyError
        UnknownProxyError                unknown-proxy             no such model, folder or revision
        UnsafeProxyError                 unsafe-proxy              pickle weights, or code that would have to be run
        TemplateLimitError               template-limit            template or tokenizer took too much memory or time
        UnsupportedProxyError            unsupported-proxy         not a causal language model we can take gradients of
      DeviceError
        DeviceLostError                  device-lost               the accelerator failed or vanished
        DeviceMemoryError                out-of-memory             one sample alone does not fit the device
      StoreError
        CorruptShardError                artifact-corrupt          bytes do not match their digest
        MismatchedShardError             artifact-mismatch         a shard of other settings than asked for
        StoreUnreachableError            store-unreachable         where artifacts are kept does not answer
      VerificationError                  verification-failed       a result folder that does not match its own record
      ClientError                        (code of the problem)     what the service answered
        WaitTimeoutError                 wait-timeout              the job goes on, the waiting ended
        ConnectionFailedError            connection-failed         no answer from the service

``retryable`` says whether doing the same thing again may succeed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar


def escaped(name: str) -> str:
    """A name as one step of a JSON Pointer."""
    return name.replace("~", "~0").replace("/", "~1")


class SpiceError(Exception):
    """Base of every error this library raises on purpose.

    Args:
        detail: One sentence for a person: what is wrong and, where possible, what to do.
        pointer: JSON Pointer in fragment form (``#/budget/count``) to what is wrong, if there is one.
        errors: Several findings, each ``{"detail", "pointer"}``, when there is more than one.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    reasons: Mapping[str, int] = MappingProxyType({})
    """How many rows there were of each reason, where an error is about many."""

    def __init__(self, detail: str, *, pointer: str | None = None, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors if errors is not None else ([{"detail": detail, "pointer": pointer}] if pointer else [])


class ConfigError(SpiceError):
    """A setting that contradicts another or the data."""

    code = "config-invalid"


class BudgetError(SpiceError):
    """More samples or tokens asked for than the pool holds."""

    code = "budget-exceeds-pool"


class PoolError(SpiceError):
    """The pool cannot be selected from."""

    code = "pool-invalid"


class EmptyPoolError(PoolError):
    """No usable sample is left in the pool.

    Args:
        detail: One sentence for a person.
        pointer: As for every error.
        errors: The first samples that were excluded.
        reasons: How many were excluded for each reason.
    """

    code = "pool-empty"

    def __init__(
        self,
        detail: str,
        *,
        pointer: str | None = None,
        errors: list[dict[str, Any]] | None = None,
        reasons: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(detail, pointer=pointer, errors=errors)
        self.reasons = reasons or {}


class NonFiniteGradientError(PoolError):
    """NaN or infinity among the gradients; names the samples."""

    code = "gradients-not-finite"


class DatasetError(SpiceError):
    """The data set as a whole cannot be read; ``code`` says why.

    Args:
        detail: One sentence for a person.
        code: One of the ``dataset-*`` codes.
        pointer: JSON Pointer to the row, if one is to blame.
        errors: Several findings, as for every error.
        reasons: How many rows cannot be used for each reason.

    Attributes:
        column_names: Columns that were seen, where it is them that no form fits.
    """

    code = "dataset-invalid"
    column_names: Sequence[str] = ()

    def __init__(
        self,
        detail: str,
        *,
        code: str = "dataset-invalid",
        pointer: str | None = None,
        errors: list[dict[str, Any]] | None = None,
        reasons: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(detail, pointer=pointer, errors=errors)
        self.code = code  # type: ignore[misc]  # narrows the class default for this one failure
        self.reasons = reasons or {}


class RowError(DatasetError):
    """One record of a data set cannot be used; ``code`` is one of the reasons listed in ``records.formats``.

    Args:
        detail: One sentence for a person. Never quotes the record's text.
        code: The reason.
    """

    code = "row-invalid"

    def __init__(self, detail: str, *, code: str) -> None:
        super().__init__(detail, code=code)


class Stopped(SpiceError):  # ruff: ignore[error-suffix-on-exception-name] - nothing went wrong
    """The work ended because ``should_stop`` said so."""

    code = "stopped"


class ProxyError(SpiceError):
    """The proxy model cannot be used; points at its name unless something else is to blame."""

    code = "proxy-invalid"

    def __init__(self, detail: str, *, pointer: str = "#/proxy/model") -> None:
        super().__init__(detail, pointer=pointer)


class UnknownProxyError(ProxyError):
    """No such model, folder or revision."""

    code = "unknown-proxy"


class UnsafeProxyError(ProxyError):
    """Weights that need unpickling, or a model that wants to run its own code."""

    code = "unsafe-proxy"


class UnsupportedProxyError(ProxyError):
    """Not a causal language model whose linear layers we can take gradients of."""

    code = "unsupported-proxy"


class TemplateLimitError(ProxyError):
    """The chat template or the tokenizer took more memory or time than it may; it would again.

    Args:
        model: Name of the proxy model.
        limit: What it may take, such as ``600 seconds``.
    """

    code = "template-limit"

    def __init__(self, model: str, limit: str) -> None:
        super().__init__(
            f"the chat template or the tokenizer of {model} took more than {limit}; look at its chat template"
        )


class DeviceError(SpiceError):
    """Where gradients were computed gave up."""

    code = "device-lost"


class DeviceLostError(DeviceError):
    """The accelerator failed or vanished; what was finished before is kept, and another process can go on from it."""

    code = "device-lost"
    retryable = True


class DeviceMemoryError(DeviceError):
    """One sample alone does not fit the device."""

    code = "out-of-memory"


class StoreError(SpiceError):
    """A stored artifact cannot be used."""

    code = "artifact-invalid"


class CorruptShardError(StoreError):
    """The bytes of an artifact do not match their digest."""

    code = "artifact-corrupt"


class MismatchedShardError(StoreError):
    """A shard that was made with other settings than the ones asked for."""

    code = "artifact-mismatch"


class StoreUnreachableError(StoreError):
    """Where artifacts are kept does not answer, or does not let us in."""

    code = "store-unreachable"
    retryable = True


class VerificationError(SpiceError):
    """A result folder that does not match its own record."""

    code = "verification-failed"


class ClientError(SpiceError):
    """What the service answered instead of a result.

    Args:
        detail: The problem's ``detail``.
        code: The problem's ``code``.
        status: HTTP status, or None when there was no answer.
        request_id: Id to quote when asking about it.
        retryable: Whether the same request may succeed later.
        errors: The problem's ``errors``.
    """

    code = "client-error"

    def __init__(
        self,
        detail: str,
        *,
        code: str = "client-error",
        status: int | None = None,
        request_id: str | None = None,
        retryable: bool = False,
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(detail, errors=errors)
        self.code = code  # type: ignore[misc]  # the service's own code
        self.retryable = retryable  # type: ignore[misc]  # the service's own word
        self.status = status
        self.request_id = request_id


class WaitTimeoutError(ClientError):
    """The waiting ended before the job did; the job goes on."""


class ConnectionFailedError(ClientError):
    """No answer from the service."""
