"""Where an image comes from, beyond its row and how its pixels were computed.

Unlike `Rendering` it may differ between two images with the same pixels, so it is kept in the
catalog alone and never written into files.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from storage.contract.items import Item


class Lineage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of one image; what is not said is not so, or not known."""

    template: str | None = None  #: the prompt as the manifest has it, where it was expanded
    negative_template: str | None = None
    pictures: tuple[str, ...] = ()  #: object keys of the pictures it was made from
    attempts: int = 1  #: at its range of items, the one that succeeded counted
    phase_seconds: dict[str, float] = {}  #: its share of the rendering time, by phase
    licence: str | None = None  #: of the model, as its card names it

    def encode(self) -> str | None:
        """As JSON; None where there is nothing to say."""
        return None if self == _NOTHING else msgspec.json.encode(self).decode()


_NOTHING = Lineage()


def lineage_of(item: Item, rendered: Lineage) -> Lineage:
    """The lineage of an item that was `rendered` so, for itself or for another."""
    return msgspec.structs.replace(
        rendered,
        template=item.template,
        negative_template=item.negative_template,
        pictures=item.pictures,
    )


def share_of(phase_seconds: Mapping[str, float], image_seconds: float) -> dict[str, float]:
    """One image's part of the time that a task took by phase, loading left out.

    `image_seconds` is its part of the whole of it.
    """
    phases = {name: seconds for name, seconds in phase_seconds.items() if name != "load"}
    whole = sum(phases.values())
    if whole <= 0 or image_seconds <= 0:
        return {}
    return {name: round(s * image_seconds / whole, 4) for name, s in phases.items() if s > 0}
