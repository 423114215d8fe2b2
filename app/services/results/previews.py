"""What the plots and the excerpts of a finished job are made of, at a size that does not grow with the job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from app.persistence.repositories import Datasets, Jobs
from app.persistence.session import Database
from app.persistence.tables import SelectedSample
from app.services.jobs.service import find_job
from app.services.results.reader import ResultReader
from spice_select.errors import RowError
from spice_select.records.conversation import shown
from spice_select.records.records import to_messages

SELECTED = "selected.jsonl"
BLOCK_BYTES = 2**16


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


@dataclass(frozen=True)
class Excerpt:
    """A pick with its text.

    Attributes:
        pick: The evidence.
        turns: Role and text of each turn, or the whole record under the role ``record``.
    """

    pick: SelectedSample
    turns: list[tuple[str, str]]


class Previews:
    """Reads of finished jobs for people.

    Args:
        database: Where the records are.
        reader: Reads their results.
    """

    def __init__(self, database: Database, reader: ResultReader) -> None:
        self.database = database
        self.reader = reader

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

    def excerpts(self, project_id: str, job_id: str, selected: int, count: int) -> tuple[list[Excerpt], list[Excerpt]]:
        """The first and the last picks with their text, which never overlap.

        Args:
            project_id: Owner.
            job_id: A job that has ended with a result.
            selected: Number of its picks.
            count: Most picks at each end.
        """
        _, path = self.reader.file(project_id, job_id, SELECTED)
        rest = min(count, max(0, selected - count))
        with path.open("rb") as file:
            texts = [line.decode() for line in islice(file, count)]
        picks = self.reader.ranking(project_id, job_id, after=0, limit=count)
        last_picks = self.reader.ranking(project_id, job_id, after=selected - rest, limit=count) if rest else []
        with self.database.read() as session:
            job = find_job(session, project_id, job_id)
            dataset = Datasets(session).get_even_deleted(job.dataset_id)
        form, columns = dataset.format, dataset.columns or {}

        def excerpts(found: list[SelectedSample], lines: list[str]) -> list[Excerpt]:
            return [Excerpt(pick, _trainings(line, form, columns)) for pick, line in zip(found, lines, strict=True)]

        return excerpts(picks, texts), excerpts(last_picks, last_lines(path, rest))


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a file in UTF-8, in order, without reading the rest.

    Args:
        path: The file; every line ends with a newline.
        count: Most lines.
    """
    if count == 0:
        return []
    blocks: list[bytes] = []
    with path.open("rb") as file:
        position = file.seek(0, 2)
        breaks = 0
        while position > 0 and breaks <= count:
            step = min(BLOCK_BYTES, position)
            position -= step
            file.seek(position)
            blocks.append(file.read(step))
            breaks += blocks[-1].count(b"\n")
    return [line.decode() for line in b"".join(reversed(blocks)).split(b"\n")[:-1][-count:]]


def _trainings(line: str, form: str | None, columns: dict[str, Any]) -> list[tuple[str, str]]:
    record = json.loads(line)
    try:
        return [(turn["role"], shown(turn)) for turn in to_messages(record, form, columns)]  # type: ignore[arg-type]
    except (RowError, KeyError, ValueError):
        return [("record", json.dumps(record, ensure_ascii=False, indent=1))]


def spread(stretches: list[Stretch], most: int) -> Iterator[Stretch]:
    """At most ``most`` of the stretches, evenly spread and always with the first and the last."""
    count = len(stretches)
    if count <= most:
        yield from stretches
        return
    yield from (stretches[round(place * (count - 1) / (most - 1))] for place in range(most))
