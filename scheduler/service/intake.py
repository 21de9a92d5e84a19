"""Taking in the pictures that rows name: each is opened once, checked, and kept to be stored.

Several threads open pictures ahead of the rows that name them. What a picture was found to be
is remembered by its name, so that a million rows from one picture open it once.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scheduler.manifest.inputs import Seen
from scheduler.manifest.limits import Limits
from scheduler.service.references import References, Sources
from scheduler.service.spooling import PictureSpool
from storage.contract.keys import parse_image_id
from storage.pictures import Header, PictureDamaged, PictureTooLarge, check, input_key, read_header

if TYPE_CHECKING:
    from scheduler.manifest.inputs import Pictures

THREADS: Final = 4
_KNOWN: Final = 100_000
"""Names remembered with what was found; a picture forgotten is opened again."""

_SHOWN: Final = 200


class Intake:
    """Looks at input pictures. One thread asks; several open."""

    def __init__(
        self, sources: Sources, base: Path, limits: Limits, *, headers_only: bool = False
    ) -> None:
        """Paths are relative to `base`. With `headers_only` nothing is decoded or kept."""
        self._limits = limits
        self._headers_only = headers_only
        self._references = References(
            sources,
            base,
            max_bytes=limits.max_picture_bytes,
            url_seconds=limits.max_picture_seconds,
        )
        self.spool = PictureSpool()
        self._known: OrderedDict[str, Seen | str] = OrderedDict()
        self._coming: dict[str, Future[Seen | str]] = {}
        self._digest = hashlib.sha256()
        self._taken = 0
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="pictures")

    @property
    def digests(self) -> tuple[str, ...]:
        """A hash of all pictures in the order of the rows; none if there are none."""
        return (self._digest.hexdigest(),) if self._taken else ()

    def expect(self, reference: str) -> None:
        """Begin to open it."""
        if reference not in self._known and reference not in self._coming:
            self._coming[reference] = self._threads.submit(self._open, reference)

    def look(self, reference: str) -> Seen:
        """The picture; `ValueError` begins with its name."""
        found = self._known.get(reference)
        if found is None:
            self.expect(reference)
            found = self._coming[reference].result()
            del self._coming[reference]
            self._known[reference] = found
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(reference)
        if isinstance(found, str):
            raise ValueError(f"{_shown(reference)}: {found}")
        self._digest.update(found.key.encode() + b"\0")
        self._taken += 1
        return found

    def close(self) -> None:
        """Stop opening, and let go of everything."""
        self._threads.shutdown(cancel_futures=True)
        self._references.close()
        self.spool.close()

    def _open(self, reference: str) -> Seen | str:
        """What is found under that name, or why there is nothing; in a thread of its own."""
        try:
            path = self._references.file_of(reference)
            if self._headers_only:
                header = self._header(reference, path)
                return Seen("", header.width, header.height)
            return self._take_in(reference, path)
        except PictureTooLarge as error:
            return f"{error} (RENDERMILL_MAX_PICTURE_PIXELS)"
        except ValueError as error:
            return str(error)

    def _take_in(self, reference: str, path: Path | None) -> Seen:
        if path is None:
            data = b"".join(self._references.blocks(reference))
        else:
            with self._references.open_file(path) as file:
                data = file.read()
        header = check(data, max_pixels=self._limits.max_picture_pixels)
        key = input_key(data, header.extension)
        if path is None and is_image_id(reference):
            self.spool.origins[key] = reference
        if key != reference:
            self.spool.keep(key, data, None if path is None else path.absolute())
        return Seen(key, header.width, header.height)

    def _header(self, reference: str, path: Path | None) -> Header:
        most = self._limits.max_picture_pixels
        if path is not None:
            with self._references.open_file(path) as file:
                return read_header(file, max_pixels=most)
        data = bytearray()
        tried = 0
        for block in self._references.blocks(reference):
            data += block
            if len(data) >= 2 * tried:  # most formats say all that is asked for at their beginning
                tried = len(data)
                with suppress(PictureDamaged):
                    return read_header(BytesIO(data), max_pixels=most)
        return read_header(BytesIO(data), max_pixels=most)


def is_image_id(reference: str) -> bool:
    """Whether a reference that is no file names an image of the catalog."""
    try:
        parse_image_id(reference)
    except ValueError:
        return False
    return True


def _shown(reference: str) -> str:
    return reference if len(reference) <= _SHOWN else reference[:_SHOWN] + "..."


if TYPE_CHECKING:
    _pictures: type[Pictures] = Intake
