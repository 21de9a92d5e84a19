"""Fields that are more than one value: LoRAs, ControlNets, an IP-Adapter, an upscaler, pictures.

In JSON and YAML they are objects or lists of them; in a cell of a table, and wherever a short
form will do, they are text: ``id:0.8, other:0.5``. A cell that starts with a bracket is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from scheduler.manifest.limits import Limits, exceeded
from scheduler.manifest.values import cell, is_cell, name, number_in, shown, whole_in
from storage.contract.items import ControlNet, IpAdapter, Lora, Upscaler

X4_UPSCALER: Final = "stabilityai/stable-diffusion-x4-upscaler"
"""The second stage of a row that says no more than ``upscale: 4``."""

_WEIGHT: Final = number_in(-100, 100)
_SHARE: Final = number_in(0, 1)
_SCALE: Final = number_in(0, 100)
_STEPS: Final = whole_in(1, lambda limits: (limits.max_steps, "max_steps"))
_FACTOR: Final = whole_in(2, lambda _: (8, None))
NOISE_LEVEL: Final = whole_in(0, lambda _: (1000, None))

Made = TypeVar("Made")
Parts = Mapping[str, Callable[[object, Limits], Any]]

_LORA: Final[Parts] = {"id": name, "weight": _WEIGHT, "revision": name, "weight_name": name}
_CONTROLNET: Final[Parts] = {
    "model": name,
    "revision": name,
    "scale": _SCALE,
    "start": _SHARE,
    "end": _SHARE,
}
_IP_ADAPTER: Final[Parts] = {
    "model": name,
    "revision": name,
    "subfolder": name,
    "weight_name": name,
    "scale": _SCALE,
}
_UPSCALER: Final[Parts] = {
    "model": name,
    "revision": name,
    "factor": _FACTOR,
    "num_inference_steps": _STEPS,
    "guidance_scale": _SCALE,
    "noise_level": NOISE_LEVEL,
}


def loras(value: object, limits: Limits) -> tuple[Lora, ...]:
    """``[{id, weight, revision, weight_name}]``, or ``id:0.8, other:0.5``."""
    found = [
        Lora(**_weighted(one, "id", "weight", _LORA, limits))
        for one in _several(value, limits, "LoRAs")
    ]
    ids = [(lora.id, lora.revision, lora.weight_name) for lora in found]
    if len(set(ids)) < len(ids):
        raise ValueError("names a LoRA twice")
    return tuple(found)


def controlnets(value: object, limits: Limits) -> tuple[ControlNet, ...]:
    """A model's id, an object ``{model, revision, scale, start, end}``, or a list of these."""
    found = []
    for one in _several(value, limits, "ControlNets"):
        net = ControlNet(**_weighted(one, "model", "scale", _CONTROLNET, limits))
        if net.start >= net.end:
            raise ValueError(f"starts at {net.start:g} and must end later, not at {net.end:g}")
        found.append(net)
    return tuple(found)


def ip_adapter(value: object, limits: Limits) -> IpAdapter:
    """A model's id, or an object ``{model, revision, subfolder, weight_name, scale}``."""
    return IpAdapter(**_weighted(_untabled(value), "model", "scale", _IP_ADAPTER, limits))


def upscale(value: object, limits: Limits) -> Upscaler:
    """A factor, or an object ``{model, revision, factor, num_inference_steps, ...}``."""
    value = _untabled(value)
    if not isinstance(value, dict):
        return Upscaler(model=X4_UPSCALER, factor=_FACTOR(value, limits))
    return Upscaler(**({"model": X4_UPSCALER} | _parts(value, _UPSCALER, limits)))


def references(value: object, limits: Limits) -> tuple[str, ...]:
    """Pictures: one, a list of them, or several with commas between in a cell of a table."""
    value = _untabled(value)
    if isinstance(value, str):
        several = value.split(",") if is_cell(value) else [value]
        return tuple(name(one, limits) for one in several)
    if not isinstance(value, list):
        raise ValueError(f"must be a path, a URL or a list of them, not {shown(value)}")
    return tuple(name(one, limits) for one in _counted(value, limits, "pictures"))


def _several(value: object, limits: Limits, of_what: str) -> list[object]:
    """The value as a list: of one object, of a list, of a text with commas between."""
    value = _untabled(value)
    if isinstance(value, str):
        parts: list[object] = [cell(part.strip()) for part in value.split(",")]
        return _counted([part for part in parts if part], limits, of_what)
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        raise ValueError(f"must be text, an object or a list of them, not {shown(value)}")
    return _counted(value, limits, of_what)


def _counted(values: list[object], limits: Limits, of_what: str) -> list[object]:
    if not values:
        raise ValueError("is empty")
    if len(values) > limits.max_adapters:
        said = f"names {len(values):,} {of_what}"
        raise ValueError(exceeded(said, limits.max_adapters, "max_adapters"))
    return values


def _weighted(
    value: object, naming: str, weighing: str, parts: Parts, limits: Limits
) -> dict[str, Any]:
    """The parts of one of several: an object, or text such as ``id`` or ``id:0.8``."""
    if isinstance(value, dict):
        found = _parts(value, parts, limits)
        if naming not in found:
            raise ValueError(f"needs {naming!r} in {shown(value)}")
        return found
    if not isinstance(value, str):
        raise ValueError(f"must be text or an object, not {shown(value)}")
    said, colon, weight = value.rpartition(":")
    if not colon or not _is_number(weight):  # a colon may be a path's own
        return {naming: name(value, limits)}
    return {naming: name(said, limits), weighing: parts[weighing](cell(weight), limits)}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parts(value: dict[Any, Any], parts: Parts, limits: Limits) -> dict[str, Any]:
    found = {}
    for key, one in value.items():
        if key not in parts:
            raise ValueError(f"has no part {shown(key)}; allowed: {', '.join(parts)}")
        if one is None:
            continue
        try:
            found[key] = parts[key](one, limits)
        except ValueError as error:
            raise ValueError(f"{key} {error}") from None
    return found


def _untabled(value: object) -> object:
    """What a cell holds as JSON where it starts with a bracket; else the value as it is."""
    if not isinstance(value, str) or not is_cell(value) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"starts with a bracket and cannot be read as JSON: {error}") from None
