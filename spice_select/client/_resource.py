"""What the groups of calls of both clients share: the way to the service, and lists read page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from spice_select.client.models import Item
from spice_select.client.operations import Operations
from spice_select.client.transport import AsyncTransport, BlockingTransport


@dataclass(frozen=True)
class Group:
    """Calls about one kind of resource, blocking."""

    _transport: BlockingTransport
    _operations: Operations

    def _pages(self, path: str, model: type[Item], **params: Any) -> Iterator[Item]:
        after: str | None = None
        while True:
            page = self._transport.run(self._operations.page(path, model, after, **params))
            yield from page.data
            if not page.has_more or page.next_cursor is None:
                return
            after = page.next_cursor


@dataclass(frozen=True)
class AsyncResource:
    """Calls about one kind of resource, awaited."""

    _transport: AsyncTransport
    _operations: Operations

    async def _pages(self, path: str, model: type[Item], **params: Any) -> AsyncIterator[Item]:
        after: str | None = None
        while True:
            page = await self._transport.run(self._operations.page(path, model, after, **params))
            for item in page.data:
                yield item
            if not page.has_more or page.next_cursor is None:
                return
            after = page.next_cursor
