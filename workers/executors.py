"""Who starts the process that does the next unit (``SPICE_EXECUTOR``). What comes next is decided in the database.

An executor only starts or wakes workers; each claims the unit that is next by the rule, under a lease. So it may start
too many or too few, twice or late: a worker without work ends, and a unit that nobody took is asked for again.
"""

from __future__ import annotations

import json
import shlex
import subprocess  # ruff: ignore[suspicious-subprocess-import] - the scheduler's own commands, no shell
import sys
import uuid
from typing import Any, Protocol

from app.settings import Settings

NAME = "spice-select-worker"
COMMAND_SECONDS = 30.0
"""A scheduler that does not answer for this long fails the round; the next one asks again."""


class Executor(Protocol):
    """Brings workers to the units that are runnable."""

    def notify(self, unit_id: str) -> None:
        """A unit is runnable; called within the transaction that notes it."""

    def backlog(self) -> int:
        """Wake-ups on their way; while there are any, none is sent a second time for one unit."""

    def start(self) -> int:
        """After the transaction: start what the notified units need, and say how many workers were started."""


class Embedded:
    """Workers that look into the database by themselves: nothing is to be started."""

    def notify(self, unit_id: str) -> None:
        """Nothing: the next look finds it."""

    def backlog(self) -> int:
        """None."""
        return 0

    def start(self) -> int:
        """None."""
        return 0


class Starter:
    """Starts worker processes that end when they are idle, at most ``executor_workers`` at a time.

    Args:
        settings: Of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._wanted = 0

    def notify(self, unit_id: str) -> None:  # ruff: ignore[unused-method-argument] - no worker is started for one unit
        """Count it."""
        self._wanted += 1

    def backlog(self) -> int:
        """None: the number of workers bounds what is started."""
        return 0

    def start(self) -> int:
        """Start a worker for each unit that was notified of, as far as the bound allows.

        A failure is the dispatcher's to log; the units are asked for again after ``notify_seconds``.
        """
        wanted, self._wanted = self._wanted, 0
        count = min(wanted, self.settings.executor_workers - self.alive()) if wanted else 0
        if count > 0:
            self.launch(count)
        return max(0, count)

    def alive(self) -> int:
        """Workers that wait for a place or run."""
        raise NotImplementedError

    def launch(self, count: int) -> None:
        """Start so many more."""
        raise NotImplementedError

    def worker_command(self) -> list[str]:
        """What each of them runs."""
        idle = f"{self.settings.executor_idle_seconds:g}"
        return [sys.executable, "-m", "workers", "poll", "--until-idle", idle]


def ask(*command: str) -> str:
    """Run a command of the scheduler; what it printed.

    Raises:
        RuntimeError: It failed; with what it said.
    """
    done = subprocess.run(  # ruff: ignore[subprocess-without-shell-equals-true] - fixed words and the deployment's settings
        command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with status {done.returncode}: {done.stderr.strip()[:500]}")
    return done.stdout


class Slurm(Starter):
    """Elements of an array job; ``executor_options`` go to ``sbatch``. The environment of the dispatcher goes along."""

    def alive(self) -> int:
        """Elements that ``squeue`` lists, pending ones too."""
        return len(ask("squeue", "--me", "--array", "--noheader", f"--name={NAME}", "--format=%i").split())

    def launch(self, count: int) -> None:
        """One array for the round."""
        words = ["--parsable", f"--job-name={NAME}", f"--array=0-{count - 1}", "--export=ALL", "--no-requeue"]
        ask("sbatch", *words, *self.settings.executor_options, f"--wrap=exec {shlex.join(self.worker_command())}")


class Kubernetes(Starter):
    """Jobs out of the suspended CronJob of ``deploy/kubernetes/executor``; ``executor_options`` go to ``kubectl``."""

    def alive(self) -> int:
        """Jobs that have neither succeeded nor failed."""
        words = ("get", "jobs", f"--selector=part={NAME}", "--output=json")
        jobs: list[dict[str, Any]] = json.loads(ask("kubectl", *self.settings.executor_options, *words))["items"]
        ended = {"Complete", "Failed"}
        return sum(
            not any(
                found["type"] in ended and found["status"] == "True" for found in job["status"].get("conditions", [])
            )
            for job in jobs
        )

    def launch(self, count: int) -> None:
        """One Job for each."""
        for _ in range(count):
            name = f"{NAME}-{uuid.uuid4().hex[:12]}"
            ask("kubectl", *self.settings.executor_options, "create", "job", name, f"--from=cronjob/{NAME}")


def executor_of(settings: Settings) -> Executor:
    """The executor that the settings name."""
    if settings.executor == "celery":
        from workers.celery_tasks import CeleryExecutor

        return CeleryExecutor()
    if settings.executor == "embedded":
        return Embedded()
    starters: dict[str, type[Starter]] = {"slurm": Slurm, "kubernetes": Kubernetes}
    return starters[settings.executor](settings)
