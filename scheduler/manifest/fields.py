"""The fields a row may have: diffusers' names, usual aliases, and what each value must be."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Final

from scheduler.manifest import adapters
from scheduler.manifest.limits import Limits
from scheduler.manifest.problems import FieldError
from scheduler.manifest.values import (
    Parse,
    name,
    number_in,
    one_of,
    shown,
    text,
    whole_in,
)
from storage.contract.items import COMPILE_AUTO, COMPILED, KINDS, NEVER, SEED_MAX
from storage.contract.samplers import UnknownSampler, find_sampler

TAG_PREFIX: Final = "tag."

DTYPES: Final = ("auto", "float32", "bfloat16", "float16")
PROMPT_SYNTAXES: Final = ("plain", "weighted")
RESIZE_MODES: Final = ("crop", "pad", "stretch")
COMPILE: Final = (NEVER, COMPILE_AUTO, COMPILED)

KIND: Final = "kind"
"""A field only where its value is a kind of task: else it is a tag like any other."""

_KIND_ALIASES: Final = {
    "txt2img": "text-to-image",
    "text2img": "text-to-image",
    "img2img": "image-to-image",
    "inpainting": "inpaint",
    "depth2img": "depth-to-image",
    "upscaling": "upscale",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One field: how a value is checked, and whether it decides the group or the item."""

    name: str
    parse: Parse
    aliases: tuple[str, ...] = ()
    of_group: bool = True


def is_kind(value: object) -> bool:
    """Whether a column named ``kind`` means the field: people tag their rows by that name too.

    Raises `ValueError` for what is nearly a kind of task.
    """
    if not isinstance(value, str):
        return False
    word = _kind_word(value)
    if word in KINDS or word in _KIND_ALIASES:
        return True
    near = difflib.get_close_matches(word, (*KINDS, *_KIND_ALIASES), n=1, cutoff=0.8)
    if near:
        raise ValueError(
            f"is no kind of task; did you mean {_KIND_ALIASES.get(near[0], near[0])!r}? To keep"
            f" it as a tag, name it '{TAG_PREFIX}{KIND}'"
        )
    return False


def _kind(value: object, limits: Limits) -> str:
    word = _kind_word(name(value, limits))
    if word not in KINDS and word not in _KIND_ALIASES:
        raise ValueError(f"must be one of {', '.join(KINDS)}, not {shown(value)}")
    return _KIND_ALIASES.get(word, word)


def _kind_word(value: str) -> str:
    return value.strip().casefold().replace("_", "-").replace(" ", "-")


def _sampler(value: object, limits: Limits) -> str:
    try:
        return find_sampler(name(value, limits)).name
    except UnknownSampler as error:
        raise ValueError(str(error)) from None


def _reference(value: object, limits: Limits) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a path or a URL, not {shown(value)}")
    return name(value, limits)


_side = whole_in(1, lambda limits: (limits.max_side, "max_side"))
_count = whole_in(1, lambda limits: (limits.max_images_per_row, "max_images_per_row"))
_steps = whole_in(1, lambda limits: (limits.max_steps, "max_steps"))

FIELDS: Final[dict[str, Field]] = {
    field.name: field
    for field in (
        Field(name="prompt", parse=text, of_group=False, aliases=("text", "caption")),
        Field(
            name="negative_prompt",
            parse=text,
            of_group=False,
            aliases=("negative", "neg_prompt", "uncond"),
        ),
        Field(name="seed", parse=whole_in(0, lambda _: (SEED_MAX, None)), of_group=False),
        Field(
            name="num_images",
            parse=_count,
            of_group=False,
            aliases=("n", "n_samples", "n_iter", "num_images_per_prompt", "num_outputs"),
        ),
        Field(name="model", parse=name, aliases=("model_id", "sd_model", "checkpoint")),
        Field(name="revision", parse=name),
        Field(name="width", parse=_side, aliases=("w",)),
        Field(name="height", parse=_side, aliases=("h",)),
        Field(
            name="num_inference_steps",
            parse=_steps,
            aliases=("steps", "ddim_steps", "num_steps", "inference_steps"),
        ),
        Field(
            name="guidance_scale",
            parse=number_in(0, 100),
            aliases=("cfg_scale", "cfg", "scale", "guidance"),
        ),
        Field(name="scheduler", parse=_sampler, aliases=("sampler", "sampler_name")),
        Field(name="clip_skip", parse=whole_in(0, lambda _: (24, None))),
        Field(name=KIND, parse=_kind),
        Field(name="image", parse=_reference, of_group=False, aliases=("init_image", "init_img")),
        Field(name="mask_image", parse=_reference, of_group=False, aliases=("mask",)),
        Field(name="strength", parse=number_in(0, 1), aliases=("denoising_strength",)),
        Field(
            name="control_images",
            parse=adapters.references,
            of_group=False,
            aliases=("control_image", "controlnet_image", "controlnet_images"),
        ),
        Field(name="controlnet", parse=adapters.controlnets, aliases=("controlnets",)),
        Field(name="ip_adapter", parse=adapters.ip_adapter),
        Field(name="ip_adapter_image", parse=_reference, of_group=False),
        Field(name="loras", parse=adapters.loras, aliases=("lora",)),
        Field(name="upscale", parse=adapters.upscale, aliases=("upscaler",)),
        Field(name="noise_level", parse=adapters.NOISE_LEVEL),
        Field(name="true_cfg_scale", parse=number_in(0, 100), aliases=("true_cfg",)),
        Field(name="max_sequence_length", parse=whole_in(1, lambda _: (4096, None))),
        Field(name="prompt_syntax", parse=one_of(PROMPT_SYNTAXES)),
        Field(name="resize_mode", parse=one_of(RESIZE_MODES)),
        Field(name="quantization", parse=name, aliases=("quantize",)),
        Field(name="compile", parse=one_of(COMPILE)),
        Field(name="cache", parse=name),
        Field(name="dtype", parse=one_of(DTYPES), aliases=("torch_dtype",)),
    )
}

_BY_ALIAS: Final[dict[str, str]] = {
    alias: field.name for field in FIELDS.values() for alias in (field.name, *field.aliases)
}


# One letter away from too many honest column names.
_TOO_COMMON: Final = frozenset(
    {"text", "mask", "scale", "n", "w", "h", "cfg", "kind", "cache", "dtype", "lora", "loras"}
)


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
