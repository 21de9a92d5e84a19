"""An item as the manifest row that makes it again: what pictures carry, and exports write."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from storage.contract.items import GroupSpec, Item

_EMPTY: Final[tuple[object, ...]] = (None, {}, (), [])


def item_fields(item: Item, spec: GroupSpec) -> dict[str, Any]:
    """The item as a manifest row: rendering it again needs nothing else.

    What the family's defaults would say is said all the same; what is absent is left out. Input
    pictures go by their keys in the object store, which name their content.
    """
    fields: dict[str, Any] = {
        "prompt": item.prompt,
        "negative_prompt": item.negative_prompt,
        "model": spec.model,
        "revision": spec.revision,
        "kind": None if spec.kind == _DEFAULTS.kind else spec.kind,
        "width": spec.width,
        "height": spec.height,
        "num_inference_steps": spec.num_inference_steps,
        "guidance_scale": spec.guidance_scale,
        "scheduler": spec.scheduler,
        "clip_skip": spec.clip_skip,
        "seed": item.seed,
        "image": item.image,
        "mask_image": item.mask_image,
        "strength": spec.strength,
        "resize_mode": spec.resize_mode if item.image or item.control_images else None,
        "control_image": list(item.control_images),
        "controlnet": [_said(one) for one in spec.controlnets],
        "ip_adapter": _said(spec.ip_adapter) if spec.ip_adapter else None,
        "ip_adapter_image": item.ip_adapter_image,
        "loras": [_said(one) for one in spec.loras],
        "upscale": _said(spec.upscaler) if spec.upscaler else None,
        "tags": item.tags,
    }
    for name in _PLAIN:
        value = getattr(spec, name)
        fields[name] = None if value == getattr(_DEFAULTS, name) else value
    return {name: value for name, value in fields.items() if value not in _EMPTY}


_PLAIN: Final = (
    "noise_level",
    "true_cfg_scale",
    "max_sequence_length",
    "prompt_syntax",
    "quantization",
    "cache",
    "compile",
    "dtype",
)
"""Fields of a group that are left out where they have their default."""

_DEFAULTS: Final = GroupSpec(
    model="", width=8, height=8, num_inference_steps=1, guidance_scale=1.0, scheduler=""
)


def _said(part: msgspec.Struct) -> dict[str, Any]:
    """A part's fields, those without a value left out."""
    fields = msgspec.structs.asdict(part)
    return {name: value for name, value in fields.items() if value is not None}
