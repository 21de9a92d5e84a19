"""What may be an input picture, and what its pixels are."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from storage.pictures import (
    EXTENSIONS,
    PictureError,
    as_image,
    as_mask,
    check,
    fitted,
    input_key,
    read_header,
)

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
ORIENTATION = 0x0112


def gradient(width: int = 40, height: int = 30, mode: str = "RGB") -> Image.Image:
    return Image.radial_gradient("L").resize((width, height)).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colour_of(data: bytes) -> Any:
    return as_image(data).getpixel((0, 0))


def refused(data: bytes, **limits: int) -> str:
    with pytest.raises(PictureError) as caught:
        check(data, **limits)
    return str(caught.value)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read_from_its_header_and_whole(kind: str) -> None:
    data = encoded(gradient(), kind)

    header = read_header(BytesIO(data))

    assert check(data) == header
    assert (header.extension, header.width, header.height) == (EXTENSIONS[kind], 40, 30)
    assert (as_image(data).mode, as_mask(data).mode) == ("RGB", "L")
    assert as_image(data).size == as_mask(data).size == (40, 30)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_are_turned_upright_as_exif_says(kind: str, turn: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    data = encoded(gradient(), kind, exif=exif)
    size = (30, 40) if turn > 4 else (40, 30)

    header, whole = read_header(BytesIO(data)), check(data)

    assert (header.width, header.height) == (whole.width, whole.height) == size
    assert as_image(data).size == as_mask(data).size == size


def test_a_turned_picture_shows_the_right_corner() -> None:
    image = Image.new("RGB", (20, 10))
    image.paste((255, 0, 0), (0, 0, 10, 10))  # the left half
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # its left is shown at the top
    upright = as_image(encoded(image, exif=exif))

    assert upright.getpixel((5, 2)) == (255, 0, 0)
    assert upright.getpixel((5, 17)) == (0, 0, 0)


def test_a_camera_file_with_a_preview_behind_it_is_its_first_picture() -> None:
    data = encoded(gradient(), "MPO", save_all=True, append_images=[gradient(8, 8)])

    assert check(data).extension == "jpg"
    assert as_image(data).size == (40, 30)


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 100, (100, 100, 100)),
        ("LA", (100, 255), (100, 100, 100)),
        ("LA", (100, 0), (255, 255, 255)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 255), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 102), (153, 153, 153)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 25700, (100, 100, 100)),
        ("I;16", 25700 + 120, (100, 100, 100)),
        ("I;16", 25700 + 137, (101, 101, 101)),
    ],
)
def test_any_mode_becomes_rgb_with_transparency_on_white(
    mode: str, colour: Any, seen: tuple[int, int, int]
) -> None:
    assert colour_of(encoded(Image.new(mode, (4, 4), colour))) == seen


def test_a_palettes_transparent_colour_is_white() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([9, 9, 9, 200, 0, 0])

    assert colour_of(encoded(image)) == (200, 0, 0)
    assert colour_of(encoded(image, transparency=1)) == (255, 255, 255)


def test_inks_become_colours() -> None:
    red, _, blue = colour_of(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))

    assert red > 200
    assert blue < 60


def test_a_profile_brings_colours_to_srgb() -> None:
    image = Image.new("RGB", (8, 8), (120, 200, 40))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    linear = _with_gamma(srgb, 1.0)

    assert colour_of(encoded(image, icc_profile=srgb)) == (120, 200, 40)
    assert colour_of(encoded(image, icc_profile=b"no profile")) == (120, 200, 40)
    brighter = colour_of(encoded(image, icc_profile=linear))
    assert all(new > old + 20 for new, old in zip(brighter, (120, 200, 40), strict=True)), (
        "linear light looks brighter in sRGB"
    )


def _with_gamma(profile: bytes, gamma: float) -> bytes:
    """The profile with another tone curve and name: all its curves lie in one parametric tag."""
    count = struct.unpack(">I", profile[128:132])[0]
    changed = bytearray(profile)
    for number in range(count):
        name, offset, size = struct.unpack(">4sII", profile[132 + 12 * number : 144 + 12 * number])
        if name in (b"rTRC", b"gTRC", b"bTRC"):
            assert profile[offset : offset + 4] == b"para"
            simple = b"para" + bytes(4) + struct.pack(">HHi", 0, 0, int(gamma * 65536))
            changed[offset : offset + size] = simple.ljust(size, b"\0")
        elif name == b"desc":
            text = changed[offset : offset + size]
            changed[offset : offset + size] = text.replace("sRGB".encode("utf-16-be"), b"\0L" * 4)
    return bytes(changed)


def test_a_masks_white_is_painted_anew() -> None:
    image = Image.new("RGB", (4, 4), "white")
    image.putpixel((0, 0), (0, 0, 0))

    mask = as_mask(encoded(image))

    assert [mask.getpixel((0, 0)), mask.getpixel((1, 0))] == [0, 255]


def test_where_a_mask_is_transparent_it_is_painted_anew_whatever_its_colour() -> None:
    image = Image.new("RGBA", (4, 4), (255, 255, 255, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))

    mask = as_mask(encoded(image))

    assert [mask.getpixel((0, 0)), mask.getpixel((1, 0))] == [255, 0]


def test_a_mask_that_is_opaque_everywhere_is_one_by_its_brightness() -> None:
    assert as_mask(encoded(Image.new("RGBA", (4, 4), (255, 255, 255, 255)))).getpixel((0, 0)) == 255


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_picture_cut_off_is_refused(kind: str, share: float) -> None:
    data = encoded(gradient(200, 150), kind)

    assert "damaged or cut off" in refused(data[: int(len(data) * share)])


@pytest.mark.parametrize("data", [b"", b"\0", b"no picture", b"<svg></svg>", b"%PDF-1.7\n", b"PK"])
def test_what_is_no_picture_is_refused_with_what_is_allowed(data: bytes) -> None:
    assert "allowed: PNG, JPEG, WEBP, TIFF, BMP, GIF" in refused(data)


def test_formats_that_run_programs_or_are_rare_are_refused() -> None:
    assert "allowed" in refused(encoded(gradient(), "EPS"))
    assert "allowed" in refused(encoded(gradient(), "PPM"))
    assert "allowed" in refused(encoded(gradient(), "TGA"))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(kind: str) -> None:
    frames = [gradient().rotate(turn) for turn in (90, 180)]
    data = encoded(gradient(), kind, save_all=True, append_images=frames)

    assert "several frames" in refused(data)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_with_no_known_range_are_refused(mode: str) -> None:
    assert f"of the kind {mode}" in refused(encoded(Image.new(mode, (4, 4)), "TIFF"))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is as large as that."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("width", "height"), [(12_000, 12_000), (40_000, 40_000), (1, 2**31 - 1)])
def test_a_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    data = bomb(width, height)

    assert "pixels" in refused(data, max_pixels=64 << 20)
    with pytest.raises(PictureError, match="pixels"):
        read_header(BytesIO(data), max_pixels=64 << 20)


def test_the_limit_is_the_callers() -> None:
    data = encoded(gradient())

    assert check(data, max_pixels=1200).width == 40
    assert refused(data, max_pixels=1199) == "has 1,200 pixels (40 x 30); the limit is 1,199"


@given(st.data())
def test_damaged_files_are_pictures_or_refused(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(FORMATS))
    whole = bytearray(encoded(gradient(16, 12), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))

    with suppress(PictureError):  # and no other error
        header = check(bytes(whole), max_pixels=1 << 16)
        assert header.width * header.height <= 1 << 16
        assert as_image(bytes(whole)).size == (header.width, header.height)


@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    to_width=st.integers(1, 90),
    to_height=st.integers(1, 90),
    how=st.sampled_from(["crop", "pad", "stretch"]),
    mode=st.sampled_from(["RGB", "L"]),
)
def test_any_picture_comes_to_any_size(
    width: int, height: int, to_width: int, to_height: int, how: str, mode: str
) -> None:
    made = fitted(Image.new(mode, (width, height)), to_width, to_height, how)

    assert (made.size, made.mode) == ((to_width, to_height), mode)


def test_a_long_thin_picture_takes_no_more_memory_than_its_size() -> None:
    thin = Image.new("RGB", (1, 60_000))

    assert fitted(thin, 64, 64, "crop").size == (64, 64)
    assert fitted(thin, 64, 64, "pad").size == (64, 64)


def halves() -> Image.Image:
    """Red left, blue in the middle, green right; twice as wide as high."""
    image = Image.new("RGB", (80, 40), "blue")
    image.paste("red", (0, 0, 20, 40))
    image.paste("lime", (60, 0, 80, 40))
    return image


def test_cropping_keeps_the_middle() -> None:
    made = fitted(halves(), 40, 40, "crop")

    assert {made.getpixel((x, 20)) for x in (1, 20, 38)} == {(0, 0, 255)}


def test_padding_keeps_all_of_it_on_white() -> None:
    made = fitted(halves(), 80, 80, "pad")

    assert made.getpixel((40, 5)) == made.getpixel((40, 75)) == (255, 255, 255)
    assert made.crop((0, 20, 80, 60)).tobytes() == halves().tobytes()


def test_stretching_changes_its_shape() -> None:
    made = fitted(halves(), 40, 40, "stretch")

    assert made.getpixel((2, 20)) == (255, 0, 0)
    assert made.getpixel((37, 20)) == (0, 255, 0)


@pytest.mark.parametrize("how", ["crop", "pad", "stretch"])
def test_a_picture_of_the_right_size_is_left_alone(how: str) -> None:
    assert fitted(halves(), 80, 40, how).tobytes() == halves().tobytes()


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ValueError, match="resize mode 'fill'"):
        fitted(halves(), 8, 8, "fill")


def test_the_key_is_the_contents_hash() -> None:
    assert input_key(b"x", "png") == (
        "inputs/2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881.png"
    )
