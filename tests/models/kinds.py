"""Every kind of task of the classic families: a group, its items and their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from storage.contract.errors import InputUnusable
from storage.contract.items import (
    DEPTH_TO_IMAGE,
    IMAGE_TO_IMAGE,
    INPAINT,
    UPSCALE,
    BatchShape,
    ControlNet,
    GroupSpec,
    IpAdapter,
    Item,
    Lora,
)
from storage.testing.factories import make_item
from tests.models import classic
from tests.models.phases import drawing, mask
from workers.engine.families.base import Inputs

SIDE = 64

ITEMS = tuple(
    msgspec.structs.replace(
        make_item(n, prompt=f"thing {n}", negative_prompt="dull", seed=7 * n), image=f"picture {n}"
    )
    for n in range(3)
)

WORDS_ONLY = tuple(msgspec.structs.replace(item, image=None) for item in ITEMS)


class Drawings:
    """Pictures drawn for items, by their seed; those of `missing` cannot be had."""

    def __init__(self, *missing: int) -> None:
        self._missing = missing
        self.fetched: list[int] = []

    def inputs_of(self, item: Item, spec: GroupSpec) -> Inputs:
        number = item.image_no if item.image_no else item.row
        if number in self._missing:
            raise InputUnusable(f"the input picture {item.image} is missing")
        scale = 4 if spec.kind == UPSCALE else 1
        size = spec.width // scale, spec.height // scale
        return Inputs(
            image=drawing(number, *size),
            mask_image=mask(number, *size) if spec.kind == INPAINT else None,
            control_images=tuple(
                drawing(number + n + 5, *size) for n in range(len(spec.controlnets))
            ),
            ip_adapter_image=drawing(number + 3, 40, 50) if spec.ip_adapter else None,
        )

    def prefetch(self, items: Sequence[Item]) -> None:
        self.fetched += [item.row for item in items]


class Models:
    """Tiny models of Stable Diffusion's kinds, made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, name: str) -> Path:
        folder = self._folder / name
        if not folder.exists():
            self._build(name, folder)
        return folder

    def _build(self, name: str, folder: Path) -> None:
        match name:
            case "sd":
                classic.stable_diffusion(folder)
            case "controlnet":
                classic.controlnet(folder, self("sd"))
            case "lora":
                classic.lora(folder / "pytorch_lora_weights.safetensors", self("sd"), text=True)
            case "ip":
                classic.ip_adapter(folder, self("sd"))
            case _:
                getattr(classic, name)(folder)


def spec_of(model: Path, **changes: Any) -> GroupSpec:
    given: dict[str, Any] = {
        "model": str(model),
        "width": SIDE,
        "height": SIDE,
        "num_inference_steps": 4,
        "guidance_scale": 6.0,
        "scheduler": "euler_a",
        "batch": BatchShape(encode=4, denoise=2, decode=2),
    }
    return GroupSpec(**{**given, **changes})


def spec_named(name: str, models: Models) -> GroupSpec:
    match name:
        case "image to image":
            return spec_of(models("sd"), kind=IMAGE_TO_IMAGE, strength=0.6)
        case "inpaint":
            return spec_of(models("sd"), kind=INPAINT, strength=0.9)
        case "depth":
            return spec_of(models("depth"), kind=DEPTH_TO_IMAGE, strength=0.8)
        case "upscale":
            return spec_of(models("upscaler"), kind=UPSCALE, noise_level=20)
        case "controlnets":
            net = ControlNet(model=str(models("controlnet")), scale=0.7)
            return spec_of(models("sd"), controlnets=(net, net))
        case "lora":
            return spec_of(models("sd"), loras=(Lora(id=str(models("lora")), weight=0.8),))
        case "ip adapter":
            return spec_of(models("sd"), ip_adapter=IpAdapter(model=str(models("ip")), scale=0.6))
        case "xl":
            return spec_of(models("stable_diffusion_xl"))
        case "refiner":
            return spec_of(models("refiner"), kind=IMAGE_TO_IMAGE, strength=0.5)
    raise LookupError(name)


KINDS = (
    "image to image",
    "inpaint",
    "depth",
    "upscale",
    "controlnets",
    "lora",
    "ip adapter",
    "xl",
    "refiner",
)
