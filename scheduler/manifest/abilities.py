"""What a family takes: samplers, LoRAs, ControlNets, IP-Adapters, second stages. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from scheduler.manifest.inputs import Inputs
from scheduler.manifest.problems import FieldError
from storage.contract.families.plain import PLAIN
from storage.contract.families.record import Family, Guidance, SamplerSet
from storage.contract.items import UPSCALE, UPSCALE_FACTOR, WEIGHTED
from storage.contract.models import ModelCard
from storage.contract.samplers import Sampler

FLOW_SIGMAS: Final = frozenset(
    {
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "DEISMultistepScheduler",
        "UniPCMultistepScheduler",
        "SASolverScheduler",
    }
)
"""Diffusers' schedulers with an option ``use_flow_sigmas``."""

QUANTIZATIONS: Final[tuple[str, ...]] = ("fp8",)
"""Ways to quantize that the engine has."""

CACHES: Final[tuple[str, ...]] = ("first-block", "taylorseer")
"""Caching hooks that the engine has, for transformers."""

DISTILLED: Final = frozenset({"SCMScheduler"})
"""Only what was trained with it takes it."""

_FLOW: Final = "FlowMatch"

MAX_CLIP_TOKENS: Final = 602
"""Eight chunks of 75, and a start and an end; each makes every step slower."""


def check_sampler(sampler: Sampler, card: ModelCard) -> None:
    """Refuse a sampler the family does not take."""
    family = card.family
    of_flow = sampler.scheduler_class.startswith(_FLOW)
    match family.samplers:
        case SamplerSet.DIFFUSION:
            taken = not of_flow and sampler.scheduler_class not in DISTILLED
            allowed = "any but those of flow matching"
        case SamplerSet.FLOW:
            taken, allowed = of_flow, "those of flow matching"
        case SamplerSet.FLOW_AND_DPM:
            taken = of_flow or sampler.scheduler_class in FLOW_SIGMAS
            allowed = "those of flow matching, DPM++, DEIS and UniPC"
        case SamplerSet.OWN:
            taken, allowed = sampler.scheduler_class == card.scheduler, f"only {card.scheduler}"
    if not taken:
        said = f"{sampler.name!r} does not suit {family.title} models, which take {allowed}"
        raise FieldError("scheduler", said)


def check_adapters(settings: Mapping[str, Any], inputs: Inputs, kind: str, family: Family) -> None:
    """Refuse adapters the family does not take, and those whose pictures are missing."""
    if settings.get("loras") and not family.loras:
        raise FieldError("loras", f"cannot be laid over {family.title} models")
    _check_controls(settings, inputs, kind, family)
    adapter, picture = settings.get("ip_adapter"), inputs.ip_adapter_image
    if adapter is not None and not family.ip_adapters:
        raise FieldError("ip_adapter", f"does not go with {family.title} models")
    if adapter is not None and picture is None:
        raise FieldError("ip_adapter_image", "is missing: the IP-Adapter takes after a picture")
    if picture is not None and adapter is None:
        raise FieldError("ip_adapter_image", "is given without an ip_adapter")


def _check_controls(settings: Mapping[str, Any], inputs: Inputs, kind: str, family: Family) -> None:
    nets, pictures = settings.get("controlnet") or (), inputs.control_images
    if nets and kind not in family.controlnet_pipelines:
        kinds = ", ".join(family.controlnet_pipelines)
        which = f" ({kinds} only)" if kinds else ""
        raise FieldError("controlnet", f"does not guide {kind} of {family.title} models{which}")
    if pictures and not nets:
        raise FieldError("control_images", "are given without a controlnet")
    if len(nets) != len(pictures):
        raise FieldError(
            "control_images",
            f"are {len(pictures)}, but there are {len(nets)} ControlNets: each needs one",
        )


def check_text(settings: Mapping[str, Any], family: Family) -> None:
    """Refuse settings of guidance and text encoders that the family has not."""
    if settings.get("true_cfg_scale") is not None and family.guidance is Guidance.CLASSIFIER_FREE:
        raise FieldError("true_cfg_scale", f"is not used by {family.title}; use guidance_scale")
    if settings.get("prompt_syntax") == WEIGHTED and not family.chunked_prompts:
        raise FieldError(
            "prompt_syntax", f"weighted is for models that read by CLIP alone, not {family.title}"
        )
    length = settings.get("max_sequence_length")
    if length is not None and family.name == PLAIN:
        raise FieldError("max_sequence_length", f"cannot be set for {family.title}")
    if length is not None and family.chunked_prompts and length > MAX_CLIP_TOKENS:
        raise FieldError(
            "max_sequence_length", f"must be at most {MAX_CLIP_TOKENS} for {family.title}"
        )


def check_lossy(settings: Mapping[str, Any], family: Family) -> None:
    """Refuse accelerations the engine has not: what is asked for is never passed over."""
    taken = {"quantization": family.name != PLAIN, "cache": family.caches}
    for name, known in (("quantization", QUANTIZATIONS), ("cache", CACHES)):
        value = settings.get(name)
        if value is not None and value not in known:
            raise FieldError(name, f"knows no {value!r}; allowed: {', '.join(known)}")
        if value is not None and not taken[name]:
            raise FieldError(name, f"does not go with {family.title} models")


def check_upscaler(factor: int, card: ModelCard) -> None:
    """Refuse a second stage whose model does not make pictures larger by that factor."""
    if UPSCALE not in card.family.pipelines:
        raise FieldError("upscale", f"{card.model} does not make pictures larger")
    if factor != UPSCALE_FACTOR:
        said = f"{card.model} makes pictures {UPSCALE_FACTOR} times as large, not {factor}"
        raise FieldError("upscale", said)
