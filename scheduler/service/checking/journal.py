"""A check's notes: how far it is and what it found, so that a killed one goes on.

A file of JSON lines in the home, only ever appended to: findings as they are found, and after
each step the place reached. What follows the last place was not finished and is done again, so
a line cut in half by a power cut does no harm.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from scheduler.service.checking.findings import Finding, Wanted
from storage.contract.errors import InputError

FOLDER: Final = "checks"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a check is: all before it is done."""

    job_id: int = 0  #: being looked at
    next_item: int = 0  #: of that job
    objects_done: bool = False  #: no more objects without a row are looked for
    cursor: str = ""  #: of the next page, in a check of a query
    matches_done: bool = False  #: there is no next page
    looked_at: int = 0
    objects: int = 0


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    place: Place | None = None
    finding: Finding | None = None


_DECODER: Final = msgspec.json.Decoder(_Line)


class Journal:
    """The notes of one kind of check on one home; open in one process at a time."""

    def __init__(self, home: Path, wanted: Wanted) -> None:
        """Opens what an interrupted check of the same kind left, unless it begins again."""
        folder = home / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{_name(wanted)}.jsonl"
        self._file = open(self.path, "a+b")  # noqa: SIM115 - until it is closed
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise InputError(
                "the same check is under way already", hint="wait for it, or end it"
            ) from error
        if wanted.again:
            self._file.truncate(0)
        self.place, end = _read_place(self._file.fileno())
        self._file.truncate(end)
        self.resumed = end > 0

    def write(self, findings: list[Finding], place: Place) -> None:
        """What a step found, and the place it reached."""
        lines = [_Line(finding=one) for one in findings] + [_Line(place=place)]
        self._file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        self._file.flush()
        self.place = place

    def findings(self) -> Iterator[Finding]:
        """All that was found so far."""
        with open(self.path, "rb") as file:
            for line in file:
                if (found := _DECODER.decode(line).finding) is not None:
                    yield found

    def finish(self) -> None:
        """The check is over: the next one begins anew."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others check."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()


def _name(wanted: Wanted) -> str:
    """The same for the same check; how fast it goes, and what it does about orphans, is free."""
    said = msgspec.json.encode((wanted.job, wanted.query, wanted.deep, wanted.repair))
    return hashlib.sha256(said).hexdigest()[:16]


def _read_place(descriptor: int) -> tuple[Place, int]:
    """The last place that was written whole, and where its line ends."""
    place, end, at = Place(), 0, 0
    with open(os.dup(descriptor), "rb") as file:
        file.seek(0)
        for line in file:
            at += len(line)
            try:
                found = _DECODER.decode(line)
            except msgspec.DecodeError:
                break
            if found.place is not None and line.endswith(b"\n"):
                place, end = found.place, at
    return place, end
