"""Reading a text file line by line in flat memory, hashing its bytes on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import BinaryIO

from scheduler.manifest.limits import exceeded
from scheduler.manifest.problems import Problems

_BLOCK = 1 << 20
_LOOKED_AT = 1 << 16
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class LineReader:
    """Lines of a binary stream, without their ends. None stands for one that is too long.

    What is too long is passed over up to its end, and never held in memory.
    """

    def __init__(
        self,
        stream: BinaryIO,
        problems: Problems,
        *,
        max_bytes: int,
        keep_return: bool = False,
    ) -> None:
        """A carriage return before the end of a line belongs to it only with `keep_return`."""
        self._stream = stream
        self._problems = problems
        self.max_bytes = max_bytes
        self._end = b"" if keep_return else b"\r"
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes read so far."""
        return self._digest.hexdigest()

    @property
    def too_long(self) -> str:
        """The words for a line that is None."""
        return exceeded("the line is too long", self.max_bytes, "max_row_bytes")

    def __iter__(self) -> Iterator[bytes | None]:
        """Yields lines."""
        end = self._end
        rest = b""
        passing_over = False
        for block in self._blocks():
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                fits = len(line) <= self.max_bytes and not passing_over
                passing_over = False
                yield line.removesuffix(end) if fits else None
            if len(rest) > self.max_bytes:
                passing_over, rest = True, b""
        if rest or passing_over:
            yield None if passing_over else rest.removesuffix(end)

    def _blocks(self) -> Iterator[bytes]:
        first = True
        while block := read_block(self._stream, _BLOCK, self._problems):
            self._digest.update(block)
            yield self._checked_start(block) if first else block
            first = False

    def _checked_start(self, block: bytes) -> bytes:
        """The first block without its byte order mark; no text holds NUL bytes."""
        if block.startswith(_UTF16):
            raise self._problems.fatal(
                "is encoded as UTF-16", hint="save it as UTF-8 and try again"
            )
        if b"\0" in block[:_LOOKED_AT]:
            raise self._problems.fatal("is a binary file, not text")
        return block.removeprefix(b"\xef\xbb\xbf")


def read_block(stream: BinaryIO, size: int, problems: Problems) -> bytes:
    """The next bytes of a manifest; `ManifestProblems` if the disk or the pipe fails."""
    try:
        return stream.read(size)
    except OSError as error:
        raise problems.fatal(f"cannot be read: {error.strerror}") from error


def decoded(line: bytes) -> str:
    """The line's text; `ValueError` says where its UTF-8 breaks."""
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"is not UTF-8: byte {error.start + 1} is 0x{line[error.start]:02x}"
        ) from None
