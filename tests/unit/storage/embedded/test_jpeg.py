from __future__ import annotations

import pytest

from storage.embedded.jpeg import SEGMENT_BYTES, extended_xmp, xmp_segments
from storage.embedded.xmp import SourceType, parse

HEAD = b"\xff\xd8"


def segments(data: bytes) -> list[bytes]:
    found = []
    while data:
        size = int.from_bytes(data[2:4], "big")
        found.append(data[: size + 2])
        data = data[size + 2 :]
    return found


def extension_of(data: bytes) -> str:
    first = segments(data)[0]
    name = parse(first[first.index(b"<?xpacket") :])[2]
    assert name is not None
    return name


@pytest.mark.parametrize("size", [0, 100, 64_000, 65_533, 70_000, 131_000, 500_000])
def test_no_segment_is_longer_than_jpeg_allows(size: int) -> None:
    for one in segments(xmp_segments(SourceType.MADE, "x" * size)):
        assert one.startswith(b"\xff\xe1")
        assert len(one) <= SEGMENT_BYTES + 4


def test_a_short_record_takes_one_segment_and_a_long_one_several() -> None:
    assert len(segments(xmp_segments(SourceType.MADE, "x" * 100))) == 1
    assert len(segments(xmp_segments(SourceType.MADE, "x" * 200_000))) == 5


def test_parts_are_put_together_in_any_order() -> None:
    data = xmp_segments(SourceType.MADE, "x" * 200_000)
    first, *parts = segments(data)
    turned = HEAD + b"".join([*reversed(parts), first])

    whole = extended_xmp(turned, extension_of(data))

    assert whole is not None
    assert parse(whole)[1] == "x" * 200_000


def test_a_packet_with_a_part_missing_is_none() -> None:
    data = xmp_segments(SourceType.MADE, "x" * 200_000)
    first, _, *parts = segments(data)

    assert extended_xmp(HEAD + first + b"".join(parts), extension_of(data)) is None


def test_a_part_that_claims_more_than_the_file_has_is_passed_over() -> None:
    data = xmp_segments(SourceType.MADE, "x" * 200_000)
    name = extension_of(data)
    huge = data.replace(name.encode() + b"\x00\x03", name.encode() + b"\x7f\xff")

    assert huge != data
    assert extended_xmp(HEAD + huge, name) is None
