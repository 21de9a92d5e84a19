"""Names of files made by a template, which no file system and no reader can take amiss.

A template is text with fields in braces: ``{job}/{prompt:.40}-{seed}.png``. What a field says
never leads to another folder; what the template itself says makes folders. The ending is always
that of the picture's real format.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable
from typing import Final

from storage.contract.errors import InputError

DEFAULT_TEMPLATE: Final = "{job}/{item:06d}-{prompt:.40}"

PART_BYTES: Final = 150
"""Of one name, its number and ending left out: file systems hold 255."""

DEEPEST: Final = 6
LONGEST_TEMPLATE: Final = 300

_TEXTS: Final = ("job", "prompt", "negative_prompt", "model", "scheduler", "sha256", "split")
_NUMBERS: Final = (
    "item", "row", "line", "image_no", "seed", "width", "height", "num_inference_steps",
)  # fmt: skip
_PLAIN: Final = ("guidance_scale",)
FIELDS: Final = (*_TEXTS, *_NUMBERS, *_PLAIN)
TAG: Final = "tag."

_CUT: Final = re.compile(r"\.([1-9][0-9]{0,2})")
_PADDED: Final = re.compile(r"0?([1-9][0-9]?)d?")
_ENDING: Final = re.compile(r"\.(png|jpe?g|webp|avif|\{ext\})$", re.IGNORECASE)
_UNFIT: Final = re.compile(r'[<>:"/\\|?*]')
_DEVICES: Final = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE
)
_HINT: Final = f"fields are {', '.join(FIELDS)} and {TAG}NAME; {{prompt:.40}} cuts a text"


def check_template(template: str) -> None:
    """`InputError` says what is wrong with a template."""
    name_by(template, lambda field: 0 if field in (*_NUMBERS, *_PLAIN) else "x", "png")


def name_by(template: str, value: Callable[[str], object], extension: str) -> str:
    """The name a template gives to an image; `value` says what a field of it is.

    Its parts are safe on Windows, macOS and Linux and as keys of object stores. Two images may
    get the same name.
    """
    if len(template) > LONGEST_TEMPLATE:
        raise _wrong(template, f"is longer than {LONGEST_TEMPLATE} characters")
    made = "".join(_pieces(_ENDING.sub("", template), value))
    parts = made.split("/")
    if len(parts) > DEEPEST:
        raise _wrong(template, f"makes more than {DEEPEST} folders within each other")
    return "/".join(safe_part(part) for part in parts) + f".{extension}"


def safe_part(text: str) -> str:
    """One name of a path: bounded, never empty, hidden, a device or a step elsewhere."""
    plain = unicodedata.normalize("NFC", " ".join(text.split()))
    fit = "".join("-" if unicodedata.category(one)[0] == "C" else one for one in plain)
    cut = _UNFIT.sub("-", fit).strip(". ")
    cut = cut.encode(errors="replace")[:PART_BYTES].decode(errors="ignore").strip(". ")
    if not cut:
        return "_"
    return f"_{cut}" if _DEVICES.fullmatch(cut) else cut


def folded(name: str) -> str:
    """What two names have in common that some file system takes for the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def numbered(name: str, number: int) -> str:
    """The name with a number before its ending: ``fox-2.png``."""
    stem, _, ending = name.rpartition(".")
    return f"{stem}-{number}.{ending}"


def _pieces(template: str, value: Callable[[str], object]) -> list[str]:
    pieces: list[str] = []
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise _wrong(template, str(error)) from None
    for literal, field, how, conversion in parsed:
        pieces.append(literal)
        if field is None:
            continue
        if field not in FIELDS and not (field.startswith(TAG) and len(field) > len(TAG)):
            raise _wrong(template, f"{{{field}}} is no field")
        if conversion:
            raise _wrong(template, f"!{conversion} is not understood")
        pieces.append(_piece(template, field, how or "", value(field)))
    return pieces


def _piece(template: str, field: str, how: str, value: object) -> str:
    """The value of one field; a slash in it leads nowhere."""
    if field in _NUMBERS and how:
        padded = _PADDED.fullmatch(how)
        if padded is None:
            raise _wrong(template, f"{{{field}:{how}}}: a number takes a width, such as 06d")
        return f"{value:0{padded[1]}d}"
    cut = _CUT.fullmatch(how) if how else None
    if how and cut is None:
        raise _wrong(template, f"{{{field}:{how}}}: a text takes a length, such as .40")
    text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    text = " ".join(text.split()).replace("/", "-").replace("\\", "-")
    return text[: int(cut[1])].strip() if cut else text


def _wrong(template: str, said: str) -> InputError:
    return InputError(f"--name-template {template[:80]}: {said}", hint=_HINT)
