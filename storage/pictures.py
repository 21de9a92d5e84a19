"""Input pictures: what may be one, and what its pixels are.

The submitter checks a picture with these functions and the worker reads it with them, so both
see the same pixels: turned upright as EXIF says, brought to sRGB, 8 bits a channel, and
transparency laid on white. What is kept is the file as it came, under its own hash, so that
its key decides its pixels.
"""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from typing import BinaryIO, Final

from PIL import Image, ImageChops, ImageCms, ImageOps, UnidentifiedImageError

EXTENSIONS: Final = {
    "PNG": "png",
    "JPEG": "jpg",
    "MPO": "jpg",  # a JPEG with a second picture (depth, preview) behind it, as cameras write it
    "WEBP": "webp",
    "TIFF": "tif",
    "BMP": "bmp",
    "GIF": "gif",
}
"""File name extension by Pillow's name of the format."""

MAX_PIXELS: Final = 2 * 89_478_485
"""Pillow itself decodes no more: a larger one may be a decompression bomb."""

_FORMATS: Final = tuple(name for name in EXTENSIONS if name != "MPO")  # found as a JPEG
_ORIENTATION: Final = 0x0112
_ON_ITS_SIDE: Final = (5, 6, 7, 8)
_SHARP: Final = Image.Resampling.LANCZOS
_OPAQUE: Final = (255, 255)
_PROFILE_MODES: Final = ("RGB", "L", "CMYK")

# Pillow warns of large pictures by a process-wide switch; the limit here is its caller's.
_opening: Final = threading.Lock()


class PictureError(ValueError):
    """It cannot be used; the message goes on after the picture's name."""


class PictureDamaged(PictureError):
    """It is no picture, or not a whole one."""


class PictureTooLarge(PictureError):
    """It has more pixels than are allowed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a picture's first bytes say."""

    extension: str
    width: int  #: turned upright
    height: int


def input_key(data: bytes, extension: str) -> str:
    """Where an input picture lies: its name is its content's hash."""
    return f"inputs/{sha256(data).hexdigest()}.{extension}"


def read_header(file: BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Header:
    """What the header says, nothing decoded; `PictureError` if it cannot be an input."""
    image = _open(file)
    try:
        _check_header(image, max_pixels)
        return _header(image)
    finally:
        image.close()


def check(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Decode the whole picture as a worker will; `PictureError` says what is wrong."""
    image = _upright(data, max_pixels)
    _on_white(image)  # a profile or mode may fail where decoding did not
    return Header(extension=EXTENSIONS[image.format or ""], width=image.width, height=image.height)


def as_image(data: bytes) -> Image.Image:
    """The picture in RGB; what is transparent shows white."""
    return _on_white(_upright(data, MAX_PIXELS))


def as_mask(data: bytes) -> Image.Image:
    """The mask in 8-bit grey: white is painted anew, black stays.

    A picture with transparency is a mask by it: what is transparent is painted anew.
    """
    image = _upright(data, MAX_PIXELS)
    try:
        alpha = _alpha(image)
        if alpha is not None and alpha.getextrema() != _OPAQUE:
            return ImageChops.invert(alpha)
        return _eight_bits(image).convert("RGB").convert("L")
    except Exception as error:
        raise _damaged(error) from error


def fitted(picture: Image.Image, width: int, height: int, resize_mode: str) -> Image.Image:
    """The picture at that size; one that has it already is left alone.

    ``crop`` covers the size and cuts the rest off evenly, ``pad`` lays the whole picture on
    white (of a mask: painted anew), ``stretch`` changes its shape.
    """
    if picture.size == (width, height):
        return picture
    if resize_mode == "stretch":
        return picture.resize((width, height), _SHARP)
    if resize_mode == "crop":
        return picture.resize((width, height), _SHARP, box=_cover(picture.size, (width, height)))
    if resize_mode != "pad":
        raise ValueError(f"no resize mode {resize_mode!r}")
    scale = min(width / picture.width, height / picture.height)
    inner = (
        min(width, max(1, round(picture.width * scale))),
        min(height, max(1, round(picture.height * scale))),
    )
    padded = Image.new(picture.mode, (width, height), "white")
    padded.paste(picture.resize(inner, _SHARP), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return padded


def _cover(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float, float, float]:
    """The middle part of `size` that has the shape of `wanted`."""
    scale = min(size[0] / wanted[0], size[1] / wanted[1])
    # Not above what there is: the product may be, by a last bit.
    width, height = min(wanted[0] * scale, size[0]), min(wanted[1] * scale, size[1])
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, min(left + width, size[0]), min(top + height, size[1])


def _open(file: BinaryIO) -> Image.Image:
    try:
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(file, formats=_FORMATS)
    except Image.DecompressionBombError as error:
        said = f"has too many pixels; at most {MAX_PIXELS:,} are decoded"
        raise PictureTooLarge(said) from error
    except UnidentifiedImageError as error:
        kinds = ", ".join(name for name in _FORMATS)
        raise PictureDamaged(f"is no picture that can be read; allowed: {kinds}") from error
    except Exception as error:  # decoders raise anything for files made to break them
        raise _damaged(error) from error


def _check_header(image: Image.Image, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels > max_pixels:
        size = f"{image.width} x {image.height}"
        raise PictureTooLarge(f"has {pixels:,} pixels ({size}); the limit is {max_pixels:,}")
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise PictureError("holds several frames or pages; take one of them")
    if image.mode in ("F", "I", "LAB"):
        raise PictureError(f"has pixels of the kind {image.mode}; save it with 8 or 16 bits")


def _upright(data: bytes, max_pixels: int) -> Image.Image:
    """The decoded picture, turned as its EXIF says."""
    image = _open(BytesIO(data))
    try:
        _check_header(image, max_pixels)
        image.load()
    except PictureError:
        raise
    except Exception as error:
        raise _damaged(error) from error
    try:
        turned = ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF says nothing
        return image
    turned.format = image.format
    return turned


def _header(image: Image.Image) -> Header:
    width, height = image.size
    if image.format != "TIFF" and _orientation(image) in _ON_ITS_SIDE:  # TIFF's size is turned
        width, height = height, width
    return Header(extension=EXTENSIONS[image.format or ""], width=width, height=height)


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF says nothing
        return 1
    return found if isinstance(found, int) else 1


def _on_white(image: Image.Image) -> Image.Image:
    try:
        colours, alpha = _srgb(image), _alpha(image)
        if alpha is None:
            return colours
        white = Image.new("RGB", image.size, "white")
        white.paste(colours, mask=alpha)
        return white
    except Exception as error:
        raise _damaged(error) from error


def _alpha(image: Image.Image) -> Image.Image | None:
    """The picture's transparency, if it has one."""
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return image.convert("RGBA").getchannel("A")
    return None


def _eight_bits(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I;16"):
        return image
    # Rounded, and never clipped, as converting straight to 8 bits would.
    return image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")


def _srgb(image: Image.Image) -> Image.Image:
    """Its colours in sRGB, transparency left out."""
    flat = _eight_bits(image)
    if flat.mode not in _PROFILE_MODES:
        grey = flat.mode in ("1", "LA", "La")
        flat = flat.convert("RGBA").convert("RGB") if not grey else flat.convert("L")
    profile = image.info.get("icc_profile")
    if profile and (transformed := _transformed(flat, profile)) is not None:
        return transformed
    return flat.convert("RGB")


def _transformed(image: Image.Image, profile: bytes) -> Image.Image | None:
    """`image` in sRGB by its ICC profile; None if it is sRGB already, or the profile unusable."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).casefold():
            return None
        return ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _damaged(error: Exception) -> PictureDamaged:
    said = str(error) or type(error).__name__
    return PictureDamaged(f"is damaged or cut off: {said[:200]}")
