"""Adapters laid over components that are kept.

LoRAs go over denoiser and text encoders, an IP-Adapter into the denoiser. What lies there stays
while the next task wants the same.
"""

from __future__ import annotations

from storage.contract.items import GroupSpec
from workers.engine.ip_adapters import attach
from workers.engine.loras import lay, lift
from workers.engine.models import Model
from workers.engine.pool import Part, Pool


def dress(pool: Pool, part: Part, name: str, spec: GroupSpec, model: Model) -> None:
    """Lay over a component what the group wants there, and lift what it does not."""
    family = model.card.family
    takes_loras = name == family.denoiser or name in {
        encoder for _, encoder in family.text_encoders
    }
    loras = spec.loras if takes_loras else ()
    adapter = spec.ip_adapter if name == family.denoiser else None
    if part.laid == (loras, adapter) or (part.laid is None and not loras and adapter is None):
        return
    pool.rest(part)  # what is laid must come and go with the weights it lies over
    before = part.laid or ((), None)
    part.laid = None
    if before[0]:
        lift({name: part.module})
    if adapter != before[1]:
        attach(part.module, adapter)
    if loras:
        lay({name: part.module}, loras, family)
    part.laid = (loras, adapter)
    pool.weigh(part)
