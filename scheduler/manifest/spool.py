"""Sorting items by group in flat memory, and laying them out in shards.

Items arrive in the order of the manifest; a group's items must end up side by side, so that a
task is a range. Each group has a small buffer; full ones go to one temporary file that is
already unlinked, so a crash leaves nothing behind. At the end the pieces are read back group
by group and packed into shards.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from storage.contract.items import Item
from storage.contract.shards import SHARD_ITEMS, pack

_BUFFERED_BYTES = 64 << 20  # of all groups together
_SHARD_BYTES = 4 << 20  # after which a shard is closed, however few items it has

Piece = tuple[int, int, int]
"""Offset and length in the temporary file, and the number of items."""


class CountingSink:
    """Counts items per group and keeps none: for a dry run."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def add(self, group: int, item: Item) -> None:
        """Count it."""
        while group >= len(self.counts):
            self.counts.append(0)
        self.counts[group] += 1


class ItemSpool:
    """Takes items of any group in any order; gives them back group by group."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` is for the temporary file; the system's, if not given."""
        self._folder = folder
        self._file: BinaryIO | None = None  # made when the first buffer is full
        self._end = 0
        self._buffers: list[bytearray] = []
        self._buffered: list[int] = []
        self._pieces: list[list[Piece]] = []
        self._room = _BUFFERED_BYTES
        self._encode_into = msgspec.msgpack.Encoder().encode_into

    @property
    def counts(self) -> list[int]:
        """Items per group."""
        return [
            buffered + sum(count for _, _, count in pieces)
            for buffered, pieces in zip(self._buffered, self._pieces, strict=True)
        ]

    def add(self, group: int, item: Item) -> None:
        """Take an item; a new group has the next number."""
        while group >= len(self._buffers):  # a group may be numbered and get no item
            self._buffers.append(bytearray())
            self._buffered.append(0)
            self._pieces.append([])
        buffer = self._buffers[group]
        before = len(buffer)
        self._encode_into(item, buffer, -1)
        after = len(buffer)
        self._room -= after - before
        self._buffered[group] += 1
        if self._buffered[group] >= SHARD_ITEMS or after >= _SHARD_BYTES:
            self._flush(group)
        elif self._room < 0:
            for number in range(len(self._buffers)):
                self._flush(number)

    def close(self) -> None:
        """Give the disk space back."""
        if self._file is not None:
            self._file.close()

    def shards(self) -> Iterator[tuple[int, int, bytes]]:
        """(first item, number of items, bytes), items being numbered through all groups."""
        first = 0
        open_pieces: list[bytes] = []
        open_items = open_bytes = 0
        for group in range(len(self._buffers)):
            self._flush(group)
            for piece in self._pieces[group]:
                open_pieces.append(self._read(piece))
                open_items += piece[2]
                open_bytes += piece[1]
                if open_items >= SHARD_ITEMS or open_bytes >= _SHARD_BYTES:
                    yield first, open_items, pack(open_pieces, open_items)
                    first += open_items
                    open_pieces, open_items, open_bytes = [], 0, 0
        if open_items:
            yield first, open_items, pack(open_pieces, open_items)

    def _flush(self, group: int) -> None:
        buffer, count = self._buffers[group], self._buffered[group]
        if not count:
            return
        file = self._opened()
        file.seek(self._end)
        file.write(buffer)
        self._pieces[group].append((self._end, len(buffer), count))
        self._end += len(buffer)
        self._room += len(buffer)
        self._buffers[group] = bytearray()
        self._buffered[group] = 0

    def _read(self, piece: Piece) -> bytes:
        offset, length, _ = piece
        file = self._opened()
        file.seek(offset)
        return file.read(length)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        return self._file
