"""Progress for a person who waits: a live bar in a terminal, a line now and then elsewhere. On standard error."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from spice_select.cli.output import err, waiting

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from spice_select.client import Dataset, Evaluation, Job
    from spice_select.client import Progress as Count
    from spice_select.pipeline.progress import RunProgress

LINE_SECONDS = 5.0
"""Shortest time between two lines about the same phase."""


class ProgressView:
    """Shows phases one after the other.

    Args:
        quiet: Show nothing.
        console: Where to; standard error when left out.
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self._quiet = quiet
        self._console = console or err()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._phase = ""
        self._line_at = -LINE_SECONDS
        self._since = 0.0
        self._first = 0
        self._tokens_first = 0

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal:
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description:<22}"),
                BarColumn(bar_width=30),
                TextColumn("{task.fields[count]:>22}"),
                TextColumn("{task.fields[rate]}"),
                TextColumn("{task.fields[eta]}"),
                console=self._console,
                transient=False,
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(
        self,
        phase: str,
        completed: int = 0,
        total: int = 0,
        unit: str = "",
        *,
        rate: float | None = None,
        eta: float | None = None,
        token_rate: float | None = None,
        memory: int | None = None,
        detail: str = "",
    ) -> None:
        """Show where the work is.

        Args:
            phase: The step.
            completed: Done so far.
            total: To be done; 0 where it is not known.
            unit: What is counted.
            rate: Per second; taken from what was shown before when left out.
            eta: Seconds to go; likewise.
            token_rate: Tokens per second, where they are counted.
            memory: Bytes that whoever works on it holds, where it is known.
            detail: What else there is to say about it, such as a place in the queue.
        """
        if self._quiet or not phase:
            return
        now = time.monotonic()
        fresh = phase != self._phase
        if fresh:
            self._phase, self._since, self._first = phase, now, completed
        elif rate is None and now > self._since + 0.2 and completed > self._first:
            rate = (completed - self._first) / (now - self._since)
        if eta is None and rate and total:
            eta = (total - completed) / rate
        rates = ", ".join(part for part in (_rate(rate), _token_rate(token_rate), _memory(memory)) if part)
        if self._bar is not None:
            self._move(fresh, completed, total, unit, rates, eta, detail)
        elif fresh or now >= self._line_at + LINE_SECONDS:
            self._line_at = now
            parts = [detail, _count(completed, total, unit), rates, _eta(eta)]
            self._console.print(
                ": ".join([phase, ", ".join(part for part in parts if part)]).rstrip(": "), markup=False
            )

    def end(self, status: str) -> None:
        """Show that it is over."""
        if self._bar is not None:
            self._finish()
        elif not self._quiet:
            self._console.print(status, markup=False)

    def step(self, step: RunProgress) -> None:
        """Show a step of a run on this machine."""
        now = time.monotonic()
        if step.phase != self._phase:
            self._tokens_first = step.tokens
        seconds = now - self._since if step.phase == self._phase else 0.0
        tokens = step.tokens - self._tokens_first
        self.show(
            step.phase,
            step.completed,
            step.total,
            step.unit,
            token_rate=tokens / seconds if tokens > 0 and seconds > 0 else None,
            memory=step.memory_bytes if step.tokens else None,
        )

    def job(self, job: Job) -> None:
        """Show a job."""
        if job.ended:
            self.end(job.status)
            return
        if job.queue is not None:
            self.show(job.status, detail=waiting(job.queue))
            return
        self._step(job.phase or job.status, job.phase, job.progress)

    def evaluation(self, evaluation: Evaluation) -> None:
        """Show an evaluation."""
        if evaluation.ended:
            self.end(evaluation.status)
            return
        self._step(evaluation.phase or evaluation.status, evaluation.phase, evaluation.progress)

    def _step(self, name: str, phase: str | None, progress: Count | None) -> None:
        if progress is None or (progress.phase or phase) != phase:
            self.show(name)
            return
        self.show(
            name,
            progress.completed,
            progress.total,
            progress.unit,
            rate=progress.rate_per_second,
            eta=progress.eta_seconds,
            token_rate=progress.tokens_per_second,
            memory=progress.memory_bytes if progress.tokens_per_second else None,
        )

    def dataset(self, dataset: Dataset) -> None:
        """Show a data set."""
        if dataset.ended:
            self.end(dataset.status)
            return
        progress = dataset.progress
        if progress is None:
            self.show(dataset.status)
            return
        self.show(dataset.status, progress.completed, progress.total, progress.unit, rate=progress.rate_per_second)

    def _move(
        self, fresh: bool, completed: int, total: int, unit: str, rates: str, eta: float | None, detail: str
    ) -> None:
        assert self._bar is not None
        if fresh:
            self._finish()
            self._task = self._bar.add_task(self._phase, total=total or None, count="", rate="", eta="")
        assert self._task is not None
        self._bar.update(
            self._task,
            description=f"{self._phase}: {detail}" if detail else self._phase,
            completed=completed,
            total=total or None,
            count=_count(completed, total, unit),
            rate=rates,
            eta=_eta(eta),
            unit=unit,
            refresh=fresh or bool(detail),
        )

    def _finish(self) -> None:
        # A phase that is over stands as done, also when its last count was never heard of.
        if self._bar is not None and self._task is not None:
            task = next(task for task in self._bar.tasks if task.id == self._task)
            whole = int(task.total or 0)
            count = _count(whole, whole, task.fields.get("unit", ""))
            self._bar.update(
                self._task,
                description=task.description.partition(": ")[0],
                completed=whole or 1,
                total=whole or 1,
                count=count,
                eta="",
                refresh=True,
            )


def _count(completed: int, total: int, unit: str) -> str:
    if not total:
        return ""
    return f"{completed}/{total} {unit}"


def _rate(rate: float | None) -> str:
    if not rate:
        return ""
    return f"{rate / 1000:.1f}k/s" if rate >= 1000 else f"{rate:.3g}/s"


def _token_rate(rate: float | None) -> str:
    if not rate:
        return ""
    return f"{rate / 1000:.1f}k tokens/s" if rate >= 1000 else f"{rate:.3g} tokens/s"


def _memory(held: int | None) -> str:
    return f"{held / 2**30:.1f} GiB" if held else ""


def _eta(eta: float | None) -> str:
    if eta is None:
        return ""
    minutes, seconds = divmod(int(eta + 0.5), 60)
    return f"{minutes} min {seconds:02d} s left" if minutes else f"{seconds} s left"
