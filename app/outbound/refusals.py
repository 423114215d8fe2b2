"""Why an outbound request was not made or not finished."""

from __future__ import annotations

from app.errors import ServiceError


class UrlNotAllowedError(ServiceError):
    """The service does not send requests there. The detail never says which address a name has."""

    def __init__(self, detail: str, *, pointer: str | None = None) -> None:
        super().__init__("url-not-allowed", detail, pointer=pointer)


class DownloadLimitError(ServiceError):
    """The other side sent more, or took longer, than it may."""

    def __init__(self, detail: str) -> None:
        super().__init__("download-limit", detail)
