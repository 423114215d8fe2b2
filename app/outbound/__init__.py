"""Requests that the service makes to addresses named by others: https, public, pinned, bounded.

Guard(policy)             what may be asked for: check(url), client(), download(url, into)
  Destination             a checked URL with the addresses it resolved to, once
  Download                bytes, sha256 and headers of what was fetched
  UrlNotAllowedError      url-not-allowed
  DownloadLimitError      download-limit
"""

from __future__ import annotations

from app.outbound.guard import Destination, Download, Guard, Policy
from app.outbound.refusals import DownloadLimitError, UrlNotAllowedError

__all__ = ["Destination", "Download", "DownloadLimitError", "Guard", "Policy", "UrlNotAllowedError"]
