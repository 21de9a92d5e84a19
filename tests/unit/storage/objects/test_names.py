from __future__ import annotations

import pytest

from storage.contract.keys import image_key, rejected_key, shard_key, thumbnail_key
from storage.objects.names import content_type, is_key


@pytest.mark.parametrize(
    "key",
    [
        image_key("shapes-2.b", 123_456_789),
        thumbnail_key("shapes", 1),
        shard_key("0badcafe", 0),
        rejected_key("0badcafe"),
    ],
)
def test_the_programs_own_keys_are_keys(key: str) -> None:
    assert is_key(key)


@pytest.mark.parametrize(("length", "fits"), [(1024, True), (1025, False)])
def test_a_key_is_as_long_as_s3_allows_counted_in_bytes(length: int, fits: bool) -> None:
    assert is_key("x" * length) is fits
    assert is_key("é" * (length // 2) + "x" * (length % 2)) is fits


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (image_key("a", 1), "image/png"),
        (thumbnail_key("a", 1), "image/webp"),
        (rejected_key("t"), "application/jsonl"),
        (shard_key("t", 0), "application/octet-stream"),
        ("no-extension", "application/octet-stream"),
    ],
)
def test_a_browser_is_told_what_an_object_is(key: str, expected: str) -> None:
    assert content_type(key) == expected
