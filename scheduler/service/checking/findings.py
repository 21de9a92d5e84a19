"""What a check finds, and what it was asked to do."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class Kind(StrEnum):
    """What is wrong."""

    MISSING = "object missing"  #: a row whose picture is not there
    TRUNCATED = "object truncated"  #: a picture of another size than was recorded
    SWAPPED = "object swapped"  #: a picture with other bytes than were recorded
    THUMBNAIL_MISSING = "thumbnail missing"
    THUMBNAIL_DAMAGED = "thumbnail damaged"
    ORPHAN = "object without row"  #: nothing in the catalog names it
    JOB_GONE = "row without job"  #: images whose job is not in the catalog


RENDERED_AGAIN: Final = (Kind.MISSING, Kind.TRUNCATED, Kind.SWAPPED)
"""What only another rendering mends."""

THUMBNAILS: Final = (Kind.THUMBNAIL_MISSING, Kind.THUMBNAIL_DAMAGED)


AGAIN: Final = "to be rendered again"
"""What is said of an item that went back to its group."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong, and what was done about it."""

    kind: Kind
    job: str = ""  #: name of the job; empty if it is not known
    job_id: int = 0
    item: int | None = None
    key: str = ""  #: of the object
    detail: str = ""
    sha256: str | None = None  #: that the row has
    linked: tuple[int, int] | None = None  #: job and item whose picture it is; None: its own
    mended: str = ""  #: what was done; empty: nothing
    left: str = ""  #: why nothing could be done


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What to check, and how."""

    job: str | None = None  #: this one alone
    query: str | None = None  #: only images that match; nothing without a row is looked for
    deep: bool = False  #: read every picture and compare its hash
    repair: bool = False
    delete_orphans: bool = False  #: else they are moved below ``lost/``
    rate: float | None = None  #: objects looked at a second, at most
    again: bool = False  #: from the start, whatever an interrupted check has found
    threads: int = 8


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """How a check ended."""

    looked_at: int  #: rows whose objects were compared
    objects: int  #: listed in the store while looking for what has no row
    counts: dict[str, int]  #: findings by kind
    mended: int
    left: int
    resumed: bool
    deep: bool
