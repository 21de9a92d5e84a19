from __future__ import annotations

import io
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from storage.contract.errors import InputError
from storage.embedded.read import RENDERMILL, read_embedded


def picture(form: str = "PNG", **how: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3)).save(buffer, form, **how)
    return buffer.getvalue()


def chunk(key: str, value: str) -> bytes:
    texts = PngImagePlugin.PngInfo()
    texts.add_text(key, value)
    return picture(pnginfo=texts)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_a_picture_that_says_nothing_has_nothing_read_of_it(form: str) -> None:
    found = read_embedded(picture(form))

    assert (found.format, found.width, found.height) == (form, 4, 3)
    assert (found.parameters, found.record, found.source_type) == (None, None, None)


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(20), picture()[:40], b"x" * 1000]
)
def test_what_is_no_picture_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(InputError, match="no picture that can be read"):
        read_embedded(data)


@pytest.mark.parametrize("text", ["{", "[1]", "null", "[" * 100_000, '"text"'])
def test_a_record_that_is_no_json_object_is_none(text: str) -> None:
    assert read_embedded(chunk(RENDERMILL, text)).record is None


def test_a_compressed_bomb_in_a_text_chunk_is_refused() -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text(RENDERMILL, "0" * 100_000_000, zip=True)

    with pytest.raises(InputError):
        read_embedded(picture(pnginfo=texts))


def test_a_picture_too_large_to_open_is_refused() -> None:
    header = bytearray(picture())
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")

    with pytest.raises(InputError):
        read_embedded(bytes(header))


@given(st.data())
def test_a_damaged_file_never_raises_anything_else(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP"]))
    exif = Image.Exif()
    exif[0x9286] = "a comment"
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    whole = bytearray(picture(form, exif=exif.tobytes(), xmp=xmp))
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    kept = bytes(whole[: data.draw(st.integers(0, len(whole)))])

    with suppress(InputError):
        read_embedded(kept)
