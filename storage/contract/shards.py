"""The form of a shard: one msgpack array of items, about a megabyte, fetched whole."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from storage.contract.errors import ShardDamaged
from storage.contract.items import Item

SHARD_ITEMS: Final = 4096
"""Items after which a shard is closed."""

_DECODER: Final = msgspec.msgpack.Decoder(list[Item])


def pack(pieces: Sequence[bytes], count: int) -> bytes:
    """A shard of `count` items from pieces, each some encoded items one after the other."""
    return struct.pack(">BI", 0xDD, count) + b"".join(pieces)


def unpack(shard: bytes, *, key: str = "") -> list[Item]:
    """The items of a shard; `ShardDamaged` names `key` if it is not one."""
    try:
        return _DECODER.decode(shard)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ShardDamaged(
            f"the shard {key} is damaged: {error}", hint="submit the manifest again"
        ) from error
