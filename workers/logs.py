"""A worker's log: one JSON line per event on standard error, which goes to a file.

The file may be on a disk that is full. Then events are lost, and nothing else is.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

import structlog

_STANDARD_ERROR: Final = 2


class Lines:
    """Writes whole lines, unbuffered, so that one that cannot be written leaves nothing behind."""

    def msg(self, line: str) -> None:
        """Write a line, if that is possible."""
        with suppress(OSError):
            os.write(_STANDARD_ERROR, f"{line}\n".encode(errors="replace"))

    log = debug = info = warning = error = critical = exception = fatal = msg


def configure_logs() -> None:
    """For the whole process; each one is to do it for itself."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=lambda *_: Lines(),
    )
