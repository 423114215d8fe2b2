"""What the plots of a finished job are made of, at a size that does not grow with the job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from app.persistence.repositories import Jobs
from app.persistence.session import Database
from app.services.jobs.service import find_job


@dataclass(frozen=True)
class Stretch:
    """Neighbouring picks taken together.

    Attributes:
        first: Rank of the first.
        last: Rank of the last.
        gain: Mean marginal gain, nats.
        conflict: Mean conflict.
        worst_conflict: Largest conflict.
        utility: Sum of all gains up to and with the last, nats.
    """

    first: int
    last: int
    gain: float
    conflict: float
    worst_conflict: float
    utility: float


class Previews:
    """Reads of finished jobs for people.

    Args:
        database: Where the records are.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def stretches(self, project_id: str, job_id: str, selected: int, most: int) -> list[Stretch]:
        """The ranking in at most ``most`` stretches of equal length (the last may be shorter).

        Args:
            project_id: Owner.
            job_id: A job that has ended with a result.
            selected: Number of its picks.
            most: Most stretches; a stretch is one pick where there are no more picks than that.
        """
        length = max(1, -(-selected // most))
        with self.database.read() as session:
            find_job(session, project_id, job_id)
            rows = Jobs(session).stretches(job_id, length)
        utility, stretches, first = 0.0, [], 1
        for last, gain, total, conflict, worst in rows:
            utility += total
            stretches.append(Stretch(first, last, gain, conflict, worst, utility))
            first = last + 1
        return stretches


def spread(stretches: list[Stretch], most: int) -> Iterator[Stretch]:
    """At most ``most`` of the stretches, evenly spread and always with the first and the last."""
    count = len(stretches)
    if count <= most:
        yield from stretches
        return
    yield from (stretches[round(place * (count - 1) / (most - 1))] for place in range(most))
