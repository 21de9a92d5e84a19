"""The layout of a home: the folder in which everything of one machine lives."""

from __future__ import annotations

from typing import Final

CATALOG: Final = "catalog.db"
LOCKS: Final = "locks"
LOGS: Final = "logs"
