"""``spice-select worker`` and ``spice-select dispatcher``; ``python -m workers poll | dispatch`` from a checkout."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Sequence

from app.persistence.session import Database
from app.services.storage.permissions import close_folder
from app.services.workers import is_live_on
from app.settings import Settings


def work(arguments: Sequence[str]) -> None:
    """``spice-select worker``: claim and run units, woken by Celery or by polling the database.

    Args:
        arguments: Behind the name of the command.
    """
    parser = argparse.ArgumentParser(prog="spice-select worker", description="Claim and run units of work.")
    parser.add_argument(
        "--poll", action="store_true", help="look into the database instead of waiting for Celery: needs no broker"
    )
    if parser.parse_args(arguments).poll:
        from workers.poller import poll

        settings = Settings()
        close_folder(settings)
        poll(settings)
        return
    from workers.celery_app import celery_app

    # One child: a unit uses the whole device. Solo or threaded pools cannot be interrupted and replaced.
    celery_app.worker_main(["worker", "--pool", "prefork", "--concurrency", "1", "--loglevel", "info"])


def send_notifications(arguments: Sequence[str]) -> None:
    """``spice-select dispatcher``: bring workers to runnable units, and end what nobody else ends.

    Args:
        arguments: Behind the name of the command; there are none but ``--help``.
    """
    parser = argparse.ArgumentParser(prog="spice-select dispatcher", description=send_notifications.__doc__)
    parser.parse_args(arguments)
    from workers.dispatcher import dispatch
    from workers.executors import executor_of

    settings = Settings()
    close_folder(settings)
    dispatch(settings, executor_of(settings))


def main() -> None:
    """Run one of the two loops, or the check of a container.

    Raises:
        SystemExit: With the outcome of the check.
    """
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    poll = commands.add_parser("poll", help="claim and run units without a broker")
    poll.add_argument("--parent", type=int, default=None, help="end when this process does")
    poll.add_argument("--ready-fd", type=int, default=None, help="told when the worker takes up work")
    poll.add_argument("--until-idle", type=float, metavar="SECONDS", help="end after so many seconds without work")
    commands.add_parser("alive", help="status 0 when a worker of this machine registered in the last minute")
    commands.add_parser("dispatch", help="bring workers to runnable units")
    arguments = parser.parse_args()
    settings = Settings()
    if arguments.command == "poll":
        from workers.poller import poll as run

        close_folder(settings)
        run(settings, parent=arguments.parent, ready_fd=arguments.ready_fd, until_idle=arguments.until_idle)
    elif arguments.command == "alive":
        raise SystemExit(0 if is_live_on(Database(settings.resolved_database_url), socket.gethostname()) else 1)
    else:
        send_notifications([])


if __name__ == "__main__":
    main()
