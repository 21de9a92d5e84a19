"""The fields a row may have: diffusers' names, usual aliases, and what each value must be."""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from scheduler.manifest.limits import Limits, exceeded
from scheduler.manifest.problems import FieldError
from storage.contract.items import SEED_MAX
from storage.contract.samplers import UnknownSampler, find_sampler

Parse = Callable[[object, Limits], Any]

TAG_PREFIX: Final = "tag."


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One field: how a value is checked, and whether it decides the group or the item."""

    name: str
    parse: Parse
    aliases: tuple[str, ...] = ()
    of_group: bool = True


# Never spells a value out whole: a few lines of YAML can nest into gigabytes of text.
_brief: Final = reprlib.Repr()
_brief.maxstring = _brief.maxlong = _brief.maxother = 60


def shown(value: object) -> str:
    """A value as messages show it: short, however large it is."""
    try:
        text = _brief.repr(value)
    except ValueError:  # Python refuses to write out integers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."


def _text(value: object, limits: Limits) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {shown(value)}")
    if len(value) > limits.max_prompt_chars:
        said = f"is {len(value):,} characters long"
        raise ValueError(exceeded(said, limits.max_prompt_chars, "max_prompt_chars"))
    if "\0" in value:
        raise ValueError("holds a NUL character")
    if not encodable(value):
        raise ValueError("is not UTF-8")
    return str(value)  # a cell becomes plain text: items are encoded, and subclasses refused


def encodable(text: str) -> bool:
    """Whether `text` can be written; half a surrogate pair, as in a broken file name, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(value: object, limits: Limits) -> str:
    text = _text(value, limits).strip()
    if not text:
        raise ValueError("is empty")
    return text


def _whole(value: object) -> int:
    """A whole number; text is taken from tables only, where everything is text."""
    if isinstance(value, _Cell):
        try:
            return int(value.strip())
        except ValueError:
            raise ValueError(f"must be a whole number, not {shown(str(value))}") from None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number, not {shown(value)}")
    return value


def _number(value: object) -> float:
    if isinstance(value, _Cell):
        try:
            number = float(value.strip())
        except ValueError:
            raise ValueError(f"must be a number, not {shown(str(value))}") from None
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number, not {shown(value)}")
    else:
        number = _float(value)
    if not math.isfinite(number):
        raise ValueError(f"must be finite, not {number}")
    return number


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _whole_in(low: int, high: Callable[[Limits], tuple[int, str | None]]) -> Parse:
    def parse(value: object, limits: Limits) -> int:
        number = _whole(value)
        top, setting = high(limits)
        if number > top and setting:
            raise ValueError(exceeded(f"is {shown(number)}", top, setting))
        if not low <= number <= top:
            raise ValueError(f"must be {low} to {top}, not {shown(number)}")
        return number

    return parse


def _number_in(low: float, high: float) -> Parse:
    def parse(value: object, _limits: Limits) -> float:
        number = _number(value)
        if not low <= number <= high:
            raise ValueError(f"must be {low:g} to {high:g}, not {number:g}")
        return number

    return parse


def _sampler(value: object, limits: Limits) -> str:
    try:
        return find_sampler(_name(value, limits)).name
    except UnknownSampler as error:
        raise ValueError(str(error)) from None


def _not_yet(value: object, _limits: Limits) -> None:
    raise ValueError("rendering from an image is not available in this version; remove the field")


class _Cell(str):
    """A cell of a text table: a number may hide in it."""

    __slots__ = ()


def cell(text: str) -> str:
    """Mark `text` as coming from a table without types."""
    return _Cell(text)


_side = _whole_in(1, lambda limits: (limits.max_side, "max_side"))

FIELDS: Final[dict[str, Field]] = {
    field.name: field
    for field in (
        Field(name="prompt", parse=_text, of_group=False, aliases=("text", "caption")),
        Field(
            name="negative_prompt",
            parse=_text,
            of_group=False,
            aliases=("negative", "neg_prompt", "uncond"),
        ),
        Field(name="seed", parse=_whole_in(0, lambda _: (SEED_MAX, None)), of_group=False),
        Field(
            name="num_images",
            parse=_whole_in(1, lambda limits: (limits.max_images_per_row, "max_images_per_row")),
            of_group=False,
            aliases=("n", "n_samples", "n_iter", "num_images_per_prompt", "num_outputs"),
        ),
        Field(name="model", parse=_name, aliases=("model_id", "sd_model", "checkpoint")),
        Field(name="revision", parse=_name),
        Field(name="width", parse=_side, aliases=("w",)),
        Field(name="height", parse=_side, aliases=("h",)),
        Field(
            name="num_inference_steps",
            parse=_whole_in(1, lambda limits: (limits.max_steps, "max_steps")),
            aliases=("steps", "ddim_steps", "num_steps", "inference_steps"),
        ),
        Field(
            name="guidance_scale",
            parse=_number_in(0, 100),
            aliases=("cfg_scale", "cfg", "scale", "guidance"),
        ),
        Field(name="scheduler", parse=_sampler, aliases=("sampler", "sampler_name")),
        Field(name="clip_skip", parse=_whole_in(0, lambda _: (24, None))),
        Field(name="image", parse=_not_yet, of_group=False, aliases=("init_image", "init_img")),
        Field(name="mask_image", parse=_not_yet, of_group=False, aliases=("mask",)),
        Field(name="strength", parse=_not_yet, aliases=("denoising_strength",)),
    )
}

_BY_ALIAS: Final[dict[str, str]] = {
    alias: field.name for field in FIELDS.values() for alias in (field.name, *field.aliases)
}


# One letter away from too many honest column names.
_TOO_COMMON: Final = frozenset({"text", "mask", "scale", "n", "w", "h", "cfg"})


def field_named(name: str) -> Field | None:
    """The field a column or option stands for; None if it is none and not nearly one.

    Raises `FieldError` for a name so near a field's that it must be a slip of the pen.
    """
    folded = name.strip().casefold().replace(" ", "_").replace("-", "_")
    if folded in _BY_ALIAS:
        return FIELDS[_BY_ALIAS[folded]]
    near = _nearly(folded)
    if near is not None:
        raise FieldError(
            name,
            f"is no field; did you mean {near!r}? To keep it as a tag, name it"
            f" {TAG_PREFIX + name.strip()!r}",
        )
    return None


def _nearly(folded: str) -> str | None:
    """The field that `folded` is a slip of the pen from.

    Strict on purpose: a column of tags such as "prompt_id", "weight" or "test" must pass.
    """
    candidates = [
        known
        for known in _BY_ALIAS
        if known not in _TOO_COMMON
        and known[:1] == folded[:1]
        and abs(len(known) - len(folded)) <= 2
    ]
    near = difflib.get_close_matches(folded, candidates, n=1, cutoff=0.8)
    return _BY_ALIAS[near[0]] if near else None


def parse_field(field: Field, value: object, limits: Limits) -> Any:
    """The checked value, or `FieldError`."""
    try:
        return field.parse(value, limits)
    except FieldError:
        raise
    except ValueError as error:
        raise FieldError(field.name, str(error)) from None
