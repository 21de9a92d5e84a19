"""Numbering groups, and settling each one's specification from what rows and model say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from scheduler.manifest.limits import Limits, exceeded
from scheduler.manifest.problems import FieldError
from storage.contract.errors import ModelError
from storage.contract.items import GroupSpec
from storage.contract.models import ModelCard
from storage.contract.samplers import Sampler, UnknownSampler, find_sampler

Describe = Callable[[str, str | None], ModelCard]


class Group(msgspec.Struct):
    """A group while its job is being read: `length` grows."""

    spec: GroupSpec
    card: ModelCard
    length: int = 0


class GroupTable:
    """Gives the same number to the same settings; numbers count up from 0."""

    def __init__(
        self, describe: Describe, *, default_model: str, dtype: str, limits: Limits
    ) -> None:
        """`describe` looks a model up and raises `ModelError`; it is asked once per model."""
        self.groups: list[Group] = []
        self._describe = describe
        self._default_model = default_model
        self._dtype = dtype
        self._limits = limits
        self._numbers: dict[GroupSpec, int] = {}
        self._cards: dict[tuple[str, str | None], ModelCard | ModelError] = {}

    def group_of(self, settings: Mapping[str, Any]) -> int:
        """The number of the group with these settings; `FieldError` if there can be none."""
        card = self._card(settings.get("model") or self._default_model, settings.get("revision"))
        spec = self._spec(settings, card)
        number = self._numbers.get(spec)
        if number is None:
            number = len(self.groups)
            if number >= self._limits.max_groups:
                said = "rows differ in their settings too often to be batched"
                raise FieldError(None, exceeded(said, self._limits.max_groups, "max_groups"))
            self._numbers[spec] = number
            self.groups.append(Group(spec, card))
        return number

    def _spec(self, settings: Mapping[str, Any], card: ModelCard) -> GroupSpec:
        def chosen(name: str, default: Any) -> Any:
            value = settings.get(name)
            return default if value is None else value

        width, height = chosen("width", card.width), chosen("height", card.height)
        for name, side in (("width", width), ("height", height)):
            _check_side(name, side, card)
        clip_skip = settings.get("clip_skip")
        if clip_skip is not None and clip_skip >= card.text_layers:
            last = card.text_layers - 1
            raise FieldError("clip_skip", f"must be 0 to {last} for this model, not {clip_skip}")
        sampler = _sampler(chosen("scheduler", card.scheduler))
        return GroupSpec(
            model=card.model,
            revision=card.revision,
            width=width,
            height=height,
            num_inference_steps=chosen("num_inference_steps", card.num_inference_steps),
            guidance_scale=float(chosen("guidance_scale", card.guidance_scale)),
            scheduler=sampler.name,
            clip_skip=clip_skip,
            dtype=self._dtype,
        )

    def _card(self, model: str, revision: str | None) -> ModelCard:
        card = self._cards.get((model, revision))
        if card is None:
            try:
                card = self._describe(model, revision)
            except ModelError as error:
                card = error
            self._cards[(model, revision)] = card
        if isinstance(card, ModelError):
            hint = f" ({card.hint})" if card.hint else ""
            raise FieldError("model", card.message + hint)
        return card


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
