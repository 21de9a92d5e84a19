"""What kind of task a row is, and at what size: from its pictures and its model. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from scheduler.manifest.inputs import Inputs, Size
from scheduler.manifest.limits import Limits, exceeded
from scheduler.manifest.problems import FieldError
from storage.contract.items import (
    DEPTH_TO_IMAGE,
    IMAGE_TO_IMAGE,
    INPAINT,
    TEXT_TO_IMAGE,
    UPSCALE,
    UPSCALE_FACTOR,
)
from storage.contract.models import ModelCard

WITH_STRENGTH: Final = (IMAGE_TO_IMAGE, INPAINT, DEPTH_TO_IMAGE)
"""Kinds that paint a part of the input picture anew."""

NOISE_LEVEL: Final = 20
"""Diffusers' default for upscaling."""

_FROM_A_PICTURE: Final = (IMAGE_TO_IMAGE, DEPTH_TO_IMAGE, UPSCALE)
_SHAPES_DIFFER: Final = 0.02
"""Share by which a mask's shape may differ from its picture's."""


def kind_of(settings: Mapping[str, Any], inputs: Inputs, card: ModelCard) -> str:
    """The kind of task of a row with these settings and pictures.

    Where the row names none it follows from the pictures, and from what its model is made for.
    Raises `FieldError` for what does not go together.
    """
    own = _own_kind(card)
    kind = settings.get("kind") or _derived(inputs, card, own)
    _check_model(kind, own, inputs, card, said=settings.get("kind") is not None)
    _check_pictures(kind, inputs)
    return str(kind)


def strength_of(
    settings: Mapping[str, Any], kind: str, steps: int, card: ModelCard
) -> float | None:
    """How much of the input picture is painted anew; None for kinds that know no such thing."""
    said: float | None = settings.get("strength")
    if kind not in WITH_STRENGTH:
        if said is not None:
            why = "without an image" if kind == TEXT_TO_IMAGE else f"and {kind} does not use it"
            raise FieldError("strength", f"is given {why}; remove it or name an image")
        return None
    family = card.family
    default = family.inpaint_strength if kind == INPAINT else family.strength
    strength = default if said is None else said
    if int(steps * strength) < 1:
        raise FieldError(
            "strength",
            f"of {strength:g} leaves none of {steps} steps to do; take at least {1 / steps:.2g}",
        )
    return float(strength)


def noise_level_of(settings: Mapping[str, Any], kind: str) -> int | None:
    """Noise laid on a picture before it is made larger; None for other kinds."""
    said: int | None = settings.get("noise_level")
    if kind != UPSCALE:
        if said is not None:
            raise FieldError("noise_level", f"is not used by {kind}; remove it")
        return None
    return NOISE_LEVEL if said is None else said


def size_of(
    settings: Mapping[str, Any], kind: str, inputs: Inputs, card: ModelCard, limits: Limits
) -> Size:
    """Width and height: as the row says, else its picture's own, else the model's.

    A picture's own size is rounded down to what the family can make, and four times as large
    where the kind makes it so. Where the row names one side the other keeps the picture's shape.
    """
    width, height = settings.get("width"), settings.get("height")
    picture = inputs.leading
    if picture is None or (width and height):
        return width or card.width, height or card.height
    multiple = card.family.size_multiple
    if width:
        return width, _nearest(width * picture.height / picture.width, multiple)
    if height:
        return _nearest(height * picture.width / picture.height, multiple), height
    factor = UPSCALE_FACTOR if kind == UPSCALE else 1
    least = -(-card.family.min_size // multiple) * multiple
    sides = []
    for name, own in (("width", picture.width), ("height", picture.height)):
        side = max(least, own * factor // multiple * multiple)
        if side > limits.max_side:
            said = f"would be {side:,} as its picture is, and the row names none"
            raise FieldError(name, exceeded(said, limits.max_side, "max_side"))
        sides.append(side)
    return sides[0], sides[1]


def _own_kind(card: ModelCard) -> str | None:
    """The kind that the model's own pipeline does, if it is known."""
    pipelines = card.family.pipelines
    return next((kind for kind, made in pipelines.items() if made == card.pipeline), None)


def _derived(inputs: Inputs, card: ModelCard, own: str | None) -> str:
    if inputs.mask_image is not None:
        return INPAINT
    if inputs.image is None:
        return TEXT_TO_IMAGE
    if own in _FROM_A_PICTURE:
        return own
    known = (kind for kind in _FROM_A_PICTURE if kind in card.family.pipelines)
    return next(known, IMAGE_TO_IMAGE)


def _check_model(
    kind: str, own: str | None, inputs: Inputs, card: ModelCard, *, said: bool
) -> None:
    """Refuse what the model is not made for."""
    family = card.family
    made_for = f"{card.model} is made for {own}"
    if own in (INPAINT, DEPTH_TO_IMAGE, UPSCALE, IMAGE_TO_IMAGE) and kind == TEXT_TO_IMAGE:
        if inputs.image is None:
            raise FieldError("image", f"is missing: {made_for}")
        raise FieldError("kind", f"cannot be {kind}: {made_for}")
    if own == INPAINT and kind == IMAGE_TO_IMAGE and not said:
        raise FieldError("mask_image", f"is missing: {made_for}")
    if own in (INPAINT, DEPTH_TO_IMAGE, UPSCALE) and kind != own:
        raise FieldError(_field(kind, said=said), f"asks for {kind}, but {made_for}")
    if kind not in family.pipelines:
        there = ", ".join(family.pipelines)
        raise FieldError(
            _field(kind, said=said),
            f"asks for {kind}, which {family.title} models do not do; they do: {there}",
        )


def _field(kind: str, *, said: bool) -> str:
    """The field that made a row this kind of task."""
    if said or kind == TEXT_TO_IMAGE:
        return "kind"
    return "mask_image" if kind == INPAINT else "image"


def _check_pictures(kind: str, inputs: Inputs) -> None:
    """Refuse pictures that are missing, or that nobody would look at."""
    image, mask = inputs.image, inputs.mask_image
    if mask is not None and image is None:
        raise FieldError("mask_image", "is given without an image")
    if kind == TEXT_TO_IMAGE:
        if image is not None:
            raise FieldError("image", f"is not used by {kind}; remove it or the kind")
        return
    if image is None:
        raise FieldError("image", f"is missing: {kind} starts from a picture")
    if kind != INPAINT:
        if mask is not None:
            raise FieldError("mask_image", f"is not used by {kind}; remove it or the kind")
    elif mask is None:
        raise FieldError("mask_image", f"is missing: {kind} paints inside a mask")
    elif not _alike(image.size, mask.size):
        raise FieldError(
            "mask_image",
            f"is {mask.width} x {mask.height}, of another shape than the image,"
            f" {image.width} x {image.height}",
        )


def _alike(one: Size, other: Size) -> bool:
    """Whether two sizes have the same shape, as nearly as whole pixels allow."""
    a, b = one[0] * other[1], other[0] * one[1]
    return abs(a - b) <= _SHAPES_DIFFER * max(a, b)


def _nearest(side: float, multiple: int) -> int:
    return max(multiple, round(side / multiple) * multiple)
