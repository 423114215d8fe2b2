"""Calls about schedules: jobs that are made at set times."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from spice_select.client._async.transport import AsyncResource
from spice_select.client.answers import parse
from spice_select.client.budget import BudgetLike
from spice_select.client.request_bodies import job_body
from spice_select.client.schedule_models import Schedule

PATH = "/v1/schedules"


def schedule_path(schedule_id: str) -> str:
    """Path of a schedule."""
    return f"{PATH}/{quote(schedule_id, safe='')}"


class AsyncSchedules(AsyncResource):
    """Calls about schedules."""

    async def create(
        self,
        name: str,
        cron: str,
        dataset_id: str,
        budget: BudgetLike,
        *,
        timezone: str = "UTC",
        extends_previous: bool = False,
        **config: Any,
    ) -> Schedule:
        """Make a job at set times, on the newest version of a data set.

        Args:
            name: For people.
            cron: Minute, hour, day of month, month, day of week, such as ``"0 2 * * *"``.
            dataset_id: The first version of the pool.
            budget: How much each job selects.
            timezone: Where the time is meant.
            extends_previous: Each job selects what adds most to the selection of the one before.
            **config: As for ``jobs.submit``.
        """
        body = {
            "name": name,
            "cron": cron,
            "timezone": timezone,
            "extends_previous": extends_previous,
            "job": job_body(budget, config, dataset_id=dataset_id),
        }
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        return parse(await self._transport.send("POST", PATH, headers=headers, json=body), Schedule)

    async def get(self, schedule_id: str) -> Schedule:
        """One schedule, and how its last time went."""
        return await self._transport.fetch(schedule_path(schedule_id), Schedule)

    def list(self) -> AsyncIterator[Schedule]:
        """Every schedule, newest first."""
        return self._transport.pages(PATH, Schedule)

    async def update(self, schedule_id: str, **changes: Any) -> Schedule:
        """Change ``name``, ``cron``, ``timezone``, ``extends_previous`` or ``paused``."""
        return parse(await self._transport.send("PATCH", schedule_path(schedule_id), json=changes), Schedule)

    async def delete(self, schedule_id: str) -> None:
        """Make no further job; those that were made stay."""
        await self._transport.delete(schedule_path(schedule_id))
