"""Numbers and moments as they are written in a query."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = {"": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9,
                 "kib": 2**10, "mib": 2**20, "gib": 2**30}  # fmt: skip
_NUMBER = re.compile(r"([+-]?\d{1,19}(?:\.\d{1,19})?(?:e[+-]?\d{1,3})?)([a-z]{0,3})", re.IGNORECASE)
_AGO = re.compile(r"-(\d{1,6})([smhdwy])", re.IGNORECASE)
_AGO_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_557_600}
_MOMENT = re.compile(
    r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2})(?:[T ](\d{1,2}):(\d{2})(?::(\d{2}))?Z?)?)?)?"
)
LARGEST: Final = 2.0**62


def number(text: str) -> float:
    """A number, with a unit of bytes or not; `ValueError` says what is wrong."""
    found = _NUMBER.fullmatch(text)
    unit = _UNITS.get(found.group(2).lower()) if found else None
    if found is None or unit is None:
        raise ValueError(f"{shortened(text)} is not a number")
    value = float(found.group(1)) * unit
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise ValueError(f"{shortened(text)} is too large")
    return value


def moment(text: str, now: float) -> tuple[float, float]:
    """First second of a stretch of time, and the first after it; UTC.

    ``2026-11`` is a month and ``2026-11-01`` a day; ``-7d`` is the moment seven days ago.
    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        at = now - int(ago.group(1)) * _AGO_SECONDS[ago.group(2).lower()]
        return at, at
    if text.lower() == "now":
        return now, now
    midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = {"today": 0, "yesterday": 1}.get(text.lower())
    if days is not None:
        first = midnight - timedelta(days=days)
        return first.timestamp(), (first + timedelta(days=1)).timestamp()
    return _calendar(text)


def _calendar(text: str) -> tuple[float, float]:
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{shortened(text)} is not a date: write 2026-11-01, 2026-11, 2026-11-01T10:30,"
            " -7d or today"
        )
    given = [int(part) for part in found.groups() if part is not None]
    try:
        first = datetime(*(given + [1, 1][max(0, len(given) - 1) :]), tzinfo=UTC)  # type: ignore[misc, arg-type]
        after = _after(first, len(given))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{shortened(text)}: {error}") from None
    return first.timestamp(), after.timestamp()


def _after(first: datetime, parts: int) -> datetime:
    if parts == 1:
        return first.replace(year=first.year + 1)
    if parts == 2:
        return (first + timedelta(days=32)).replace(day=1)
    steps = {3: timedelta(days=1), 5: timedelta(minutes=1), 6: timedelta(seconds=1)}
    return first + steps[parts]


def shortened(text: str) -> str:
    """At most the beginning of a text, quoted, for messages."""
    return repr(text if len(text) <= 40 else text[:39] + "…")
