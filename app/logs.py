"""Log lines of API and workers: one event name and key-values, JSON in production."""

from __future__ import annotations

import logging
import sys
from typing import Any, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

MAX_VALUE_CHARACTERS = 200


def _visible(character: str) -> str:
    return character if character.isprintable() else f"\\x{ord(character):02x}"


def _tame(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Cut long strings and make control characters visible: log lines carry text that strangers sent."""
    for key, value in event.items():
        if isinstance(value, str) and key not in {"exception", "timestamp"}:
            clean = value if value.isprintable() else "".join(map(_visible, value))
            event[key] = clean if len(clean) <= MAX_VALUE_CHARACTERS else clean[:MAX_VALUE_CHARACTERS] + "..."
    return event


def configure(level: str = "info", form: str = "json") -> None:
    """Set up logging of this process, once, where it starts.

    Args:
        level: Lowest level that is logged.
        form: ``json`` or ``console``.
    """
    renderer: Any = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _tame,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def get_logger(**context: Any) -> FilteringBoundLogger:
    """A logger with these key-values bound."""
    return cast("FilteringBoundLogger", structlog.get_logger(**context))
