"""What diffusers' own call makes of a group of the classic families, on any device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from storage.contract.families.registry import family_of
from storage.contract.items import (
    DEPTH_TO_IMAGE,
    IMAGE_TO_IMAGE,
    INPAINT,
    UPSCALE,
    GroupSpec,
    Item,
)
from tests.models.phases import generators, open_whole, to_bytes
from workers.engine.families.base import Inputs
from workers.engine.families.classic import make_scheduler


def own_call(
    spec: GroupSpec, items: Sequence[Item], inputs: Sequence[Inputs], device: str
) -> np.ndarray:
    """Shape (n, height, width, 3), uint8: all items in one call, in float32.

    With an IP-Adapter one call each: diffusers takes one picture for a whole batch.
    """
    if spec.ip_adapter is not None and len(items) > 1:
        each = zip(items, inputs, strict=True)
        return np.concatenate([own_call(spec, [item], [one], device) for item, one in each])
    whole = _opened(spec)
    whole.scheduler = make_scheduler(spec.scheduler, whole.scheduler)
    whole.to(device)
    return to_bytes(whole(**_call(spec, items, inputs)).images)


def _opened(spec: GroupSpec) -> Any:
    from diffusers import ControlNetModel
    from transformers import CLIPImageProcessor

    plain = open_whole(spec.model)  # type: ignore[arg-type]
    family = family_of(type(plain).__name__)
    assert family is not None
    nets = [ControlNetModel.from_pretrained(net.model) for net in spec.controlnets]
    kinds = family.controlnet_pipelines if nets else family.pipelines
    extras: dict[str, Any] = {}
    if nets:
        extras["controlnet"] = nets if len(nets) > 1 else nets[0]
    whole = open_whole(spec.model, kinds[spec.kind], **extras)  # type: ignore[arg-type]
    for number, lora in enumerate(spec.loras):
        whole.load_lora_weights(lora.id, adapter_name=f"lora {number}")
        whole.set_adapters([f"lora {number}"], [lora.weight])
    if spec.ip_adapter is not None:
        whole.load_ip_adapter(
            spec.ip_adapter.model,
            subfolder="models",
            weight_name="ip-adapter_sd15.safetensors",
            image_encoder_folder="image_encoder",
        )
        whole.set_ip_adapter_scale(spec.ip_adapter.scale)
        side = whole.image_encoder.config.image_size
        whole.feature_extractor = CLIPImageProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        )
    return whole


def _call(spec: GroupSpec, items: Sequence[Item], inputs: Sequence[Inputs]) -> dict[str, Any]:
    call: dict[str, Any] = {
        "prompt": [item.prompt for item in items],
        "negative_prompt": [item.negative_prompt for item in items],
        "num_inference_steps": spec.num_inference_steps,
        "guidance_scale": spec.guidance_scale,
        "generator": generators(items),
        "output_type": "np",
    }
    if spec.kind not in {IMAGE_TO_IMAGE, DEPTH_TO_IMAGE, UPSCALE}:
        call |= {"width": spec.width, "height": spec.height}
    if spec.needs_picture:
        call["image"] = [slot.image for slot in inputs]
    if spec.kind == INPAINT:
        call["mask_image"] = [slot.mask_image for slot in inputs]
    for name in ("strength", "noise_level"):
        if (value := getattr(spec, name)) is not None:
            call[name] = value
    if spec.controlnets:
        call |= _controls(spec, inputs)
    if spec.ip_adapter is not None:
        call["ip_adapter_image"] = inputs[0].ip_adapter_image
    return call


def _controls(spec: GroupSpec, inputs: Sequence[Inputs]) -> dict[str, Any]:
    """Of several nets' pictures diffusers takes arrays alone."""
    count = len(spec.controlnets)
    pictures: list[Any] = [[slot.control_images[n] for slot in inputs] for n in range(count)]
    if count > 1:
        pictures = [np.stack([np.array(p) for p in net]) / np.float32(255) for net in pictures]
    scales = [net.scale for net in spec.controlnets]
    return {
        "image": pictures if count > 1 else pictures[0],
        "controlnet_conditioning_scale": scales if count > 1 else scales[0],
    }
