"""The reuse key: what decides an image, as far as it is known before anything is rendered.

Workers write it beside the images they record, and a submit computes it for the items of a new
job: where the two are equal, the image that is there already is what would be rendered. Both call
this module, so they cannot differ. It goes by what was loaded, not by what that is called: a
model of another name with the same weights makes the same pictures. The kind of device is left
out on purpose: between devices pixels differ within the tolerance that is promised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from storage.contract.items import GroupSpec, Item
from storage.contract.output import OutputOptions, SafetyRule

LIBRARIES: Final = ("torch", "diffusers", "transformers")
"""Libraries whose versions change pixels."""

_FORM: Final = 1  # of the facts below: raised when they mean something else

_NAMES: Final = ("id", "model", "revision", "weight_name", "subfolder")
"""Fields that say where weights lie; their hash says what they are."""


class ReuseKeys:
    """Makes the keys of one group's items; what they have in common is hashed once."""

    def __init__(
        self, spec: GroupSpec, output: OutputOptions, *, weights: str, versions: Mapping[str, str]
    ) -> None:
        """`weights` is the hash of all that is loaded for the group, LoRAs and the like too."""
        facts = {
            "form": _FORM,
            "group": _group_facts(spec),
            "output": _output_facts(spec, output),
            "weights": weights,
            "versions": {name: plain_version(versions.get(name, "")) for name in LIBRARIES},
        }
        encoded = msgspec.json.encode(facts, order="deterministic")
        self._start = hashlib.blake2b(encoded, digest_size=16)
        self._encode = msgspec.json.Encoder().encode

    def of(self, item: Item) -> str:
        """The key of one item: 32 hexadecimal digits."""
        digest = self._start.copy()
        digest.update(self._encode(_item_facts(item)))
        return digest.hexdigest()


def reuse_keys(
    spec: GroupSpec, output: OutputOptions, *, weights: str, versions: Mapping[str, str]
) -> ReuseKeys | None:
    """What makes the keys of a group's items; None if its images are not to be reused.

    Those are the ones enlarged by a second stage, whose weights are not among the hashed ones,
    and those of which not all is known.
    """
    known = weights and all(versions.get(name) for name in LIBRARIES)
    if not known or spec.upscaler is not None:
        return None
    return ReuseKeys(spec, output, weights=weights, versions=versions)


def plain_version(version: str) -> str:
    """A version without what it was built for: ``2.13.0+cpu`` is ``2.13.0``."""
    return version.partition("+")[0]


def _group_facts(spec: GroupSpec) -> dict[str, Any]:
    # Once through JSON, as it reaches the workers: 4 is 4.0 then where a field is a float.
    told = msgspec.json.decode(msgspec.json.encode(spec), type=GroupSpec)
    facts: dict[str, Any] = _nameless(msgspec.to_builtins(told))
    if not (spec.needs_picture or spec.controlnets):
        del facts["resize_mode"]  # there is nothing to bring to size
    # A field that groups have not got yet must not change the keys of those without it.
    return {name: one for name, one in facts.items() if (name, one) not in _DEFAULTS.items()}


_DEFAULTS: Final[dict[str, Any]] = {
    one.name: msgspec.to_builtins(one.default)
    for one in msgspec.structs.fields(GroupSpec)
    if one.default is not msgspec.NODEFAULT and one.name != "batch"
}


def _nameless(value: Any) -> Any:
    """A structure of plain values without the names of weights."""
    if isinstance(value, dict):
        return {name: _nameless(one) for name, one in value.items() if name not in _NAMES}
    if isinstance(value, list | tuple):
        return [_nameless(one) for one in value]
    return value


def _output_facts(spec: GroupSpec, output: OutputOptions) -> dict[str, Any]:
    """What files are asked for; not how hard a PNG is packed, which changes nothing in it."""
    facts: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(output, png_level=1))
    facts["quality"] = output.effective_quality
    if output.safety is not SafetyRule.OFF and output.safety_model is None:
        facts["safety_model"] = [spec.model, spec.revision]  # the model's own checker
    return facts


def _item_facts(item: Item) -> list[Any]:
    return [
        item.prompt,
        item.negative_prompt,
        item.seed,
        item.image,
        item.mask_image,
        list(item.control_images),
        item.ip_adapter_image,
    ]
