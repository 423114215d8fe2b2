"""``python -m workers poll`` (embedded worker) and ``python -m workers dispatch`` (dispatcher for Celery)."""

from __future__ import annotations

import argparse

from app.settings import Settings


def main() -> None:
    """Run one of the two loops."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    poll = commands.add_parser("poll", help="claim and run units without a broker")
    poll.add_argument("--parent", type=int, default=None, help="end when this process does")
    poll.add_argument("--ready-fd", type=int, default=None, help="told when the worker takes up work")
    commands.add_parser("dispatch", help="ring Celery workers for runnable units")
    arguments = parser.parse_args()
    settings = Settings()
    if arguments.command == "poll":
        from workers.poller import poll as run

        run(settings, parent=arguments.parent, ready_fd=arguments.ready_fd)
    else:
        from workers.celery_tasks import backlog, ring
        from workers.dispatcher import dispatch

        dispatch(settings, ring, backlog)


if __name__ == "__main__":
    main()
