"""Numbering groups, and settling each one's specification from what rows and model say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from scheduler.manifest.abilities import (
    check_adapters,
    check_lossy,
    check_sampler,
    check_text,
    check_upscaler,
)
from scheduler.manifest.inputs import NONE, Inputs
from scheduler.manifest.kinds import kind_of, noise_level_of, size_of, strength_of
from scheduler.manifest.limits import Limits, exceeded
from scheduler.manifest.problems import FieldError
from storage.contract.errors import ModelError
from storage.contract.items import (
    NEVER,
    TEXT_TO_IMAGE,
    ControlNet,
    GroupSpec,
    IpAdapter,
    Lora,
    Upscaler,
)
from storage.contract.models import ModelCard
from storage.contract.samplers import Sampler, UnknownSampler, find_sampler

Describe = Callable[[str, str | None], ModelCard]

Settle = Callable[[str, str | None], tuple[str, str | None]]
"""Name and revision of an adapter as every worker understands them; `ModelError` if it is none."""


def _as_said(name: str, revision: str | None) -> tuple[str, str | None]:
    return name, revision


class Group(msgspec.Struct):
    """A group while its job is being read: `length` grows."""

    spec: GroupSpec
    card: ModelCard
    length: int = 0


class GroupTable:
    """Gives the same number to the same settings; numbers count up from 0."""

    def __init__(
        self,
        describe: Describe,
        *,
        default_model: str,
        dtype: str,
        limits: Limits,
        settle: Settle = _as_said,
    ) -> None:
        """`describe` looks a model up and raises `ModelError`; it is asked once per model."""
        self._settle = settle
        self._settled: dict[tuple[str, str | None], tuple[str, str | None] | ModelError] = {}
        self.groups: list[Group] = []
        self._describe = describe
        self._default_model = default_model
        self._dtype = dtype
        self._limits = limits
        self._numbers: dict[GroupSpec, int] = {}
        self._cards: dict[tuple[str, str | None], ModelCard | ModelError] = {}

    def group_of(self, settings: Mapping[str, Any], inputs: Inputs = NONE) -> int:
        """The number of the group with these settings; `FieldError` if there can be none."""
        model = settings.get("model") or self._default_model
        card = self._card("model", model, settings.get("revision"))
        spec = self._spec(settings, inputs, card)
        number = self._numbers.get(spec)
        if number is None:
            number = len(self.groups)
            if number >= self._limits.max_groups:
                said = "rows differ in their settings too often to be batched"
                raise FieldError(None, exceeded(said, self._limits.max_groups, "max_groups"))
            self._numbers[spec] = number
            self.groups.append(Group(spec, card))
        return number

    def _spec(self, settings: Mapping[str, Any], inputs: Inputs, card: ModelCard) -> GroupSpec:
        def chosen(name: str, default: Any) -> Any:
            value = settings.get(name)
            return default if value is None else value

        kind = kind_of(settings, inputs, card)
        width, height = size_of(settings, kind, inputs, card, self._limits)
        for name, side in (("width", width), ("height", height)):
            _check_side(name, side, card)
        _check_clip_skip(settings.get("clip_skip"), card)
        check_text(settings, card.family)
        check_lossy(settings, card.family)
        check_adapters(settings, inputs, kind, card.family)
        sampler = _sampler(chosen("scheduler", card.scheduler))
        check_sampler(sampler, card)
        steps = chosen("num_inference_steps", card.num_inference_steps)
        return GroupSpec(
            kind=kind,
            model=card.model,
            revision=card.revision,
            width=width,
            height=height,
            num_inference_steps=steps,
            guidance_scale=float(chosen("guidance_scale", card.guidance_scale)),
            scheduler=sampler.name,
            clip_skip=settings.get("clip_skip"),
            dtype=chosen("dtype", self._dtype),
            strength=strength_of(settings, kind, steps, card),
            loras=tuple(self._lora(one) for one in chosen("loras", ())),
            controlnets=tuple(self._controlnet(one) for one in chosen("controlnet", ())),
            ip_adapter=self._ip_adapter(settings.get("ip_adapter")),
            upscaler=self._upscaler(settings.get("upscale")),
            noise_level=noise_level_of(settings, kind),
            true_cfg_scale=settings.get("true_cfg_scale"),
            max_sequence_length=settings.get("max_sequence_length"),
            prompt_syntax=chosen("prompt_syntax", "plain"),
            resize_mode=chosen("resize_mode", "crop") if _has_pictures(kind, inputs) else "crop",
            quantization=settings.get("quantization"),
            cache=settings.get("cache"),
            compile=chosen("compile", NEVER),
        )

    def _lora(self, lora: Lora) -> Lora:
        place, commit = self._place("loras", lora.id, lora.revision)
        return msgspec.structs.replace(lora, id=place, revision=commit)

    def _controlnet(self, net: ControlNet) -> ControlNet:
        place, commit = self._place("controlnet", net.model, net.revision)
        return msgspec.structs.replace(net, model=place, revision=commit)

    def _ip_adapter(self, adapter: IpAdapter | None) -> IpAdapter | None:
        if adapter is None:
            return None
        place, commit = self._place("ip_adapter", adapter.model, adapter.revision)
        return msgspec.structs.replace(adapter, model=place, revision=commit)

    def _upscaler(self, upscaler: Upscaler | None) -> Upscaler | None:
        """The second stage with its model looked up, as the first's is."""
        if upscaler is None:
            return None
        card = self._card("upscale", upscaler.model, upscaler.revision)
        check_upscaler(upscaler.factor, card)
        return msgspec.structs.replace(upscaler, model=card.model, revision=card.revision)

    def _place(self, field: str, name: str, revision: str | None) -> tuple[str, str | None]:
        settled = self._settled.get((name, revision))
        if settled is None:
            try:
                settled = self._settle(name, revision)
            except ModelError as error:
                settled = error
            self._settled[name, revision] = settled
        if isinstance(settled, ModelError):
            raise _unfit(field, settled)
        return settled

    def _card(self, field: str, model: str, revision: str | None) -> ModelCard:
        card = self._cards.get((model, revision))
        if card is None:
            try:
                card = self._describe(model, revision)
            except ModelError as error:
                card = error
            self._cards[(model, revision)] = card
        if isinstance(card, ModelError):
            raise _unfit(field, card)
        return card


def _unfit(field: str, error: ModelError) -> FieldError:
    return FieldError(field, error.message + (f" ({error.hint})" if error.hint else ""))


def _has_pictures(kind: str, inputs: Inputs) -> bool:
    return kind != TEXT_TO_IMAGE or bool(inputs.control_images)


def _check_clip_skip(clip_skip: int | None, card: ModelCard) -> None:
    if clip_skip is not None and clip_skip >= card.text_layers:
        last = card.text_layers - 1
        raise FieldError("clip_skip", f"must be 0 to {last} for this model, not {clip_skip}")


def _sampler(name: str) -> Sampler:
    try:
        return find_sampler(name)
    except UnknownSampler as error:  # of the model itself: what rows say is checked before
        raise FieldError(
            "scheduler", f"the model's own cannot be used, name one: {error}"
        ) from None


def _check_side(name: str, side: int, card: ModelCard) -> None:
    family = card.family
    multiple = family.size_multiple
    if side % multiple:
        below = side // multiple * multiple
        near = f"{below} and {below + multiple}" if below >= family.min_size else below + multiple
        raise FieldError(name, f"must be divisible by {multiple}; {side} is not, {near} would be")
    if side < family.min_size:
        raise FieldError(name, f"must be at least {family.min_size} for {family.name} models")
