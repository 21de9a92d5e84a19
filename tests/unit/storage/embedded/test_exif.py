from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from storage.embedded.exif import comment_of, with_comment


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_comment_comes_back_whole(text: str) -> None:
    assert comment_of(with_comment(text)) == text


@pytest.mark.parametrize(
    ("endian", "comment", "text"),
    [
        ("<", b"UNICODE\0" + "é".encode("utf-16-le"), "é"),
        (">", b"UNICODE\0" + "é".encode("utf-16-be"), "é"),
        ("<", b"ASCII\0\0\0plain", "plain"),
        ("<", bytes(8) + b"bare", "bare"),
        ("<", b"ASCII\0\0\0", None),
    ],
)
def test_comments_of_other_programs_are_read(endian: str, comment: bytes, text: str | None) -> None:
    exif = Image.Exif()
    exif.endian = endian
    exif.get_ifd(0x8769)[0x9286] = comment

    assert comment_of(exif.tobytes()) == text


@given(st.binary(max_size=200))
def test_damaged_exif_says_nothing(data: bytes) -> None:
    whole = with_comment("text")

    comment_of(data)
    comment_of(whole[: len(whole) // 2] + data)
