"""What a picture's file says of how it was made, whichever program wrote it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from storage.contract.samplers import UnknownSampler, find_sampler

UNKNOWN_SEED: Final = -1
"""In the catalog, of a picture that does not say its seed; no seed is negative."""

_MOST: Final = 2**63 - 1  # what SQL's integers hold


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """As far as it is known; the size is the picture's own."""

    program: str  #: that made it
    prompt: str = ""
    negative_prompt: str = ""
    model: str = ""
    revision: str | None = None
    seed: int | None = None
    steps: int | None = None
    cfg: float | None = None
    sampler: str = ""  #: canonical, where it is one that is known
    tags: dict[str, str] = {}  #: what else is worth finding it by
    render_key: str | None = None  #: of our own pictures
    rendering: str | None = None  #: JSON of Rendering, likewise


def text_of(value: object) -> str:
    """A text that every database keeps, without spaces around it; anything else is none."""
    if not isinstance(value, str):
        return ""
    return value.encode(errors="replace").decode().replace("\x00", "�").strip()


def cleaned(one: Described) -> Described:
    """The same with texts that every database keeps."""
    texts = ("prompt", "negative_prompt", "model", "sampler")
    changes: dict[str, Any] = {name: text_of(getattr(one, name)) for name in texts}
    revision = text_of(one.revision) or None
    return msgspec.structs.replace(one, **changes, revision=revision, tags=some(one.tags))


def whole(value: object) -> int | None:
    """A whole number, however it was written; None if it is none, or too large for SQL."""
    number = value if type(value) is int else real(value)
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal() and len(value) < 40:
        number = int(value)  # a float would lose digits of a seed
    if number is None or number != int(number) or abs(number) > _MOST:
        return None
    return int(number)


def real(value: object) -> float | None:
    """A finite number, however it was written."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def sampler_of(name: object, schedule: object = None) -> str:
    """The canonical name of a sampler as programs spell it; one that is not known stays.

    `schedule` is the spacing of the noise, which some programs name beside the sampler.
    """
    said, spacing = text_of(name), text_of(schedule).casefold()
    folded = said.casefold().replace(" ", "_").replace("dpmpp", "dpm++").replace("uni_pc", "unipc")
    if folded.endswith("_k"):
        folded = folded.removesuffix("_k") + "_karras"
    folded = folded.removesuffix("_ancestral") + ("_a" if folded.endswith("_ancestral") else "")
    spaced = [f"{folded}_karras"] if spacing == "karras" else []
    for candidate in (*spaced, folded):
        try:
            return find_sampler(candidate).name
        except UnknownSampler:
            continue
    return said


def some(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags that have a value, as texts."""
    return {
        text_of(name): text_of(str(value))
        for name, value in tags.items()
        if value not in (None, "", [], {})
    }
