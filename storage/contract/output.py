"""What becomes of a job's pictures once they are rendered: the file, its metadata, its marks.

None of it changes what is rendered. Options are the job's, not a row's: they travel with every
claimed task. Every check is here, so that the command line, job files and whatever else asks
say the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec


class ImageFormat(StrEnum):
    """How pictures are encoded."""

    PNG = "png"
    WEBP = "webp"
    WEBP_LOSSLESS = "webp-lossless"
    JPEG = "jpeg"
    AVIF = "avif"

    @property
    def extension(self) -> str:
        """Of the file's name."""
        return {"jpeg": "jpg", "webp-lossless": "webp"}.get(self.value, self.value)

    @property
    def media_type(self) -> str:
        """Its MIME type."""
        return f"image/{self.value.removesuffix('-lossless')}"

    @property
    def is_lossless(self) -> bool:
        """Whether the file gives back every pixel."""
        return self in (ImageFormat.PNG, ImageFormat.WEBP_LOSSLESS)


class Embed(StrEnum):
    """How much the file says of itself. The catalog always knows all."""

    NONE = "none"  #: nothing
    MINIMAL = "minimal"  #: that it was made by AI, and the render key; no prompt
    FULL = "full"  #: all it takes to make it again


class SafetyRule(StrEnum):
    """What is done with a picture the safety checker flags."""

    OFF = "off"  #: not checked
    MARK = "mark"  #: kept, and recorded as flagged
    BLUR = "blur"  #: kept blurred beyond recognition
    DROP = "drop"  #: not kept: the item ends as failed, with the reason "unsafe"


FAMILY_WATERMARK: Final = "family"
"""The text that the original scripts of the model's family wrote."""

OFF: Final = "off"

WATERMARK_BYTES: Final = 32
"""Longest text: a picture of 512 pixels holds each of its bits sixteen times."""

DEFAULT_QUALITY: Final = {ImageFormat.WEBP: 90, ImageFormat.JPEG: 95, ImageFormat.AVIF: 80}


class OutputOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a job asks of its files; ask `field_problem` and `conflict` before making one."""

    format: ImageFormat = ImageFormat.PNG
    quality: int | None = None  #: 1 to 100, of lossy formats; None: `DEFAULT_QUALITY`
    png_level: int = 1  #: zlib's, 0 to 9; the default's four times as fast, a sixth larger
    metadata: Embed = Embed.FULL
    thumbnails: bool = True
    safety: SafetyRule = SafetyRule.OFF
    safety_model: str | None = None  #: a folder or hub id; None: the model's own checker
    watermark: str | None = None  #: invisible text, or `FAMILY_WATERMARK`; None: none
    c2pa: bool = False  #: signed with the workers' certificate

    @property
    def effective_quality(self) -> int | None:
        """The quality that is used; None where there is none."""
        return self.quality or DEFAULT_QUALITY.get(self.format)

    def encode(self) -> str:
        """As JSON; the defaults are the empty text."""
        return "" if self == OutputOptions() else msgspec.json.encode(self).decode()


@lru_cache(maxsize=64)
def decode_output(text: str) -> OutputOptions:
    """The inverse of `OutputOptions.encode`."""
    return msgspec.json.decode(text, type=OutputOptions) if text else OutputOptions()


def field_problem(name: str, value: object) -> str | None:
    """What is wrong with one value, in words that follow its name; None if nothing is."""
    check = _CHECKS.get(name)
    return f"is not known; there are {', '.join(_CHECKS)}" if check is None else check(value)


def options_from(values: Mapping[str, object]) -> OutputOptions:
    """Options of values that `field_problem` found nothing wrong with."""
    said = dict(values)
    if said.get("watermark") == OFF:
        said["watermark"] = None
    return msgspec.convert(said, OutputOptions)


def conflict(options: OutputOptions) -> tuple[str, str] | None:
    """A field that contradicts another, and what is wrong; None if all agree."""
    if options.quality is not None and options.format not in DEFAULT_QUALITY:
        return "quality", f"{options.format} loses nothing and has no quality"
    if options.png_level != OutputOptions().png_level and options.format is not ImageFormat.PNG:
        return "png_level", f"is of PNG files; these are {options.format}"
    if options.safety_model is not None and options.safety is SafetyRule.OFF:
        return "safety_model", "names a checker, but safety is off"
    return None


def _choice(kind: type[StrEnum]) -> Callable[[object], str | None]:
    words = [one.value for one in kind]
    return lambda value: None if value in words else f"must be one of {', '.join(words)}"


def _number(least: int, most: int) -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        good = type(value) is int and least <= value <= most
        return None if good else f"must be a whole number from {least} to {most}"

    return check


def _switch(value: object) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _model(value: object) -> str | None:
    if isinstance(value, str) and value.strip() and len(value) <= 500:
        return None
    return "must be a folder or a hub id"


def _watermark(value: object) -> str | None:
    if not isinstance(value, str) or not value.isprintable() or not value.strip():
        return f"must be printable text, {FAMILY_WATERMARK!r} or {OFF!r}"
    size = len(value.encode())
    if size > WATERMARK_BYTES:
        return f"may have {WATERMARK_BYTES} bytes; {value!r} has {size}"
    return None


_CHECKS: Final[dict[str, Callable[[object], str | None]]] = {
    "format": _choice(ImageFormat),
    "quality": _number(1, 100),
    "png_level": _number(0, 9),
    "metadata": _choice(Embed),
    "thumbnails": _switch,
    "safety": _choice(SafetyRule),
    "safety_model": _model,
    "watermark": _watermark,
    "c2pa": _switch,
}


class Watermark(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of an invisible watermark."""

    bits: int = 0  #: of the message; 0: it was not applied
    wrong: int | None = None  #: bits that were read back otherwise from the finished file
    note: str | None = None  #: why it was not applied

    @property
    def is_verified(self) -> bool:
        """Whether the whole message was read back from the file."""
        return self.bits > 0 and self.wrong == 0


class Safety(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the safety checker said of one picture.

    Concepts are numbers: the checker's makers published no names. A score is how far the
    picture's likeness to a concept lies above its threshold, so that above 0 is flagged.
    """

    flagged: bool
    concepts: dict[int, float] = {}  #: those above their threshold, with their scores
    special_care: dict[int, float] = {}  #: those that lower all thresholds by 0.01
    highest: float = 0.0  #: the highest score of all, flagged or not
    checker: str = ""  #: hash of its weights


class Produced(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was done to a picture between the renderer and its file."""

    format: ImageFormat = ImageFormat.PNG
    safety: Safety | None = None
    blurred: bool = False
    watermark: Watermark | None = None
    signed: bool = False  #: by C2PA
