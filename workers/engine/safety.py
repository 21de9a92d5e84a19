"""The safety checker: what it says of finished pictures. It never touches their pixels.

The checker is that of Stable Diffusion 1.x: CLIP's vision tower, and 17 + 3 concepts with a
threshold each. Diffusers' own call paints flagged pictures black; here only its scores are taken.

Computed in float32 whatever the renderer's dtype, so that a picture is flagged alike everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from storage.contract.claims import ClaimedTask
from storage.contract.errors import ModelError, ModelUnusable, OutputUnusable
from storage.contract.items import GroupSpec
from storage.contract.outcomes import Reason
from storage.contract.output import OutputOptions, Safety, SafetyRule
from storage.models.resolve import locate
from storage.models.weights import variant_of, weight_files, weights_hash
from workers.engine.ports import Picture, Pixels

if TYPE_CHECKING:
    from workers.engine.devices import Device

COMPONENT: Final = "safety_checker"
PROCESSOR: Final = "feature_extractor"

SPECIAL_CARE: Final = 0.01
"""How far one flagged special concept lowers the thresholds of all that follow."""

AT_ONCE: Final = 8
"""Pictures looked at together."""

ACTIVATION_BYTES: Final = 256 << 20
"""Room beside the weights; 8 pictures of 224 pixels a side took 150 MiB."""

Inspect = Callable[[Sequence[Picture]], Sequence[Picture]]


class SafetyChecker:
    """A checker with its weights in host memory, put on the device while it looks."""

    def __init__(self, module: Any, processor: Any, *, weights: str, device: Device) -> None:
        """`module` is diffusers' StableDiffusionSafetyChecker, `processor` CLIP's."""
        self._module = module
        self._processor = processor
        self._weights = weights
        self._device = device

    @classmethod
    def load(cls, folder: Path, processor: Path, device: Device) -> SafetyChecker:
        """From folders with its config and weights, and its image processor's config."""
        try:
            return cls(
                _load_module(folder),
                _load_processor(processor),
                weights=weights_hash(folder.parent, (folder.name,)),
                device=device,
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            said = str(error).strip().splitlines()
            reason = said[0] if said else type(error).__name__
            raise ModelUnusable(f"safety checker in {folder}: {reason}") from error

    def check(self, pixels: Sequence[Pixels]) -> list[Safety]:
        """What it says of each picture of (height, width, 3) uint8 pixels."""
        found: list[Safety] = []
        for start in range(0, len(pixels), AT_ONCE):
            found += self._check(pixels[start : start + AT_ONCE])
        return found

    def _check(self, pixels: Sequence[Pixels]) -> list[Safety]:
        inputs = self._processor(list(pixels), return_tensors="pt").pixel_values.float()
        embeds = self._embedded(inputs)
        module = self._module
        likeness = _cosines(embeds, module.concept_embeds)
        special = _cosines(embeds, module.special_care_embeds)
        thresholds = module.concept_embeds_weights.tolist()
        special_thresholds = module.special_care_embeds_weights.tolist()
        return [
            msgspec.structs.replace(
                judge(one, two, thresholds, special_thresholds), checker=self._weights
            )
            for one, two in zip(likeness.tolist(), special.tolist(), strict=True)
        ]

    def _embedded(self, inputs: Any) -> Any:
        """CLIP's embeddings, of shape (n, dimensions), on the host.

        On the device if there is room beside what the renderer keeps there, else on the CPU.
        """
        import torch

        from workers.engine.devices import module_bytes

        needed = module_bytes(self._module) + ACTIVATION_BYTES
        if self._device.has_own_memory and self._device.free_bytes() >= needed:
            with suppress(torch.OutOfMemoryError):  # others may share the card
                return self._on_device(inputs)
        with torch.inference_mode():
            return self._compute(inputs)

    def _on_device(self, inputs: Any) -> Any:
        import torch

        device = self._device
        device.place(self._module)
        try:
            with torch.inference_mode(), device.computing():
                return device.to_host(self._compute(inputs.to(device.name)))
        finally:
            device.take_off(self._module)

    def _compute(self, inputs: Any) -> Any:
        return self._module.visual_projection(self._module.vision_model(inputs)[1])


def judge(
    likeness: Sequence[float],
    special: Sequence[float],
    thresholds: Sequence[float],
    special_thresholds: Sequence[float],
) -> Safety:
    """Scores by the checker's own rule, of cosines and thresholds, rounded as it rounds them.

    Source: diffusers' ``StableDiffusionSafetyChecker.forward``.
    """
    adjustment = 0.0
    care: dict[int, float] = {}
    for concept, (cosine, threshold) in enumerate(zip(special, special_thresholds, strict=True)):
        score = round(cosine - threshold + adjustment, 3)
        if score > 0:
            care[concept] = score
            adjustment = SPECIAL_CARE
    scores = [
        round(cosine - threshold + adjustment, 3)
        for cosine, threshold in zip(likeness, thresholds, strict=True)
    ]
    concepts = {concept: score for concept, score in enumerate(scores) if score > 0}
    return Safety(flagged=bool(concepts), concepts=concepts, special_care=care, highest=max(scores))


class Inspector:
    """Has the pictures of jobs that ask for it checked; keeps the last checker loaded."""

    def __init__(self, open_device: Callable[[], Device]) -> None:
        """`open_device` is called when the first checker is loaded."""
        self._open_device = open_device
        self._device: Device | None = None
        self._kept: tuple[tuple[Path, Path], SafetyChecker] | None = None

    def checker_of(self, options: OutputOptions, spec: GroupSpec) -> SafetyChecker:
        """The checker a job's pictures of `spec` are to go through, loaded if need be.

        Raises `OutputUnusable` where there is none, `ModelUnusable` for a damaged one.
        """
        folders = _find(options, spec)
        if self._kept is None or self._kept[0] != folders:
            self._kept = None  # its memory is free before the next one takes more
            self._device = self._device or self._open_device()
            self._kept = (folders, SafetyChecker.load(*folders, self._device))
        return self._kept[1]


def inspection(inspector: Inspector | None, task: ClaimedTask) -> Inspect:
    """What a task's pictures go through before they are encoded: nothing, for most tasks."""
    rule = task.output.safety
    if rule is SafetyRule.OFF:
        return lambda pictures: pictures
    if inspector is None:
        raise OutputUnusable("this worker cannot check pictures for safety")
    return partial(_inspected, inspector.checker_of(task.output, task.spec), rule)


def _inspected(
    checker: SafetyChecker, rule: SafetyRule, pictures: Sequence[Picture]
) -> list[Picture]:
    """The same pictures with what the checker said; dropped ones without their pixels."""
    seen = [picture for picture in pictures if picture.pixels is not None]
    said = checker.check([picture.pixels for picture in seen])
    by_item = {picture.item: one for picture, one in zip(seen, said, strict=True)}
    return [_settled(picture, by_item.get(picture.item), rule) for picture in pictures]


def _settled(picture: Picture, said: Safety | None, rule: SafetyRule) -> Picture:
    if said is None or not (said.flagged and rule is SafetyRule.DROP):
        return replace(picture, safety=said)
    concepts = ", ".join(f"{number} (+{score:g})" for number, score in said.concepts.items())
    detail = f"flagged by the safety checker: concepts {concepts}"
    return replace(picture, pixels=None, fault=Reason.UNSAFE, detail=detail, safety=said)


def _find(options: OutputOptions, spec: GroupSpec) -> tuple[Path, Path]:
    """The folders of the checker and of its image processor."""
    named = options.safety_model
    try:
        home = locate(named) if named else locate(spec.model, spec.revision)
    except ModelError as error:
        raise ModelUnusable(error.message, hint=error.hint) from error
    checker = home / COMPONENT if (home / COMPONENT / "config.json").exists() else home
    if not weight_files(checker) or not (checker / "config.json").exists():
        raise OutputUnusable(
            f"{named or spec.model} has no safety checker with safetensors weights",
            hint="name one: --safety-model CompVis/stable-diffusion-safety-checker",
        )
    beside = home / PROCESSOR
    return checker, beside if beside.exists() else checker


def _load_module(folder: Path) -> Any:
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    module, report = StableDiffusionSafetyChecker.from_pretrained(
        folder,
        dtype=torch.float32,
        use_safetensors=True,
        variant=variant_of(folder),
        output_loading_info=True,
    )
    missing = [*report.get("missing_keys", ()), *report.get("mismatched_keys", ())]
    if missing:
        raise ModelUnusable(
            f"safety checker in {folder}: its weights do not belong to it: {len(missing)} tensors"
            f" are missing or of another shape (first: {missing[0]})"
        )
    return module.eval().requires_grad_(False)


def _load_processor(folder: Path) -> Any:
    import transformers

    return transformers.CLIPImageProcessor.from_pretrained(folder)


def _cosines(embeds: Any, concepts: Any) -> Any:
    """Cosine of each embedding with each concept, of shape (n, concepts)."""
    import torch

    normalize = torch.nn.functional.normalize
    return normalize(embeds) @ normalize(concepts).T
