"""Adapters laid over components that are kept.

LoRAs go over denoiser and text encoders, an IP-Adapter into the denoiser. What lies there stays
while the next task wants the same, of the same files.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage.contract.items import GroupSpec, IpAdapter, Lora
from storage.models.weights import stamp_of
from workers.engine.ip_adapters import attach, locate_ip_adapter
from workers.engine.loras import lay, lift, locate_lora
from workers.engine.models import Model
from workers.engine.pool import Part, Pool


@dataclass(frozen=True, slots=True)
class _Laid:
    """What lies over a component, and its files as they were then."""

    loras: tuple[Lora, ...]
    adapter: IpAdapter | None
    files: tuple[Path, ...]
    stamp: str

    @classmethod
    def now(cls, loras: tuple[Lora, ...], adapter: IpAdapter | None) -> _Laid:
        """These, from their files as they are now."""
        files = [locate_lora(lora) for lora in loras]
        if adapter is not None:
            files.append(locate_ip_adapter(adapter))
        return cls(loras, adapter, tuple(files), stamp_of(files))

    def still_is(self, loras: tuple[Lora, ...], adapter: IpAdapter | None) -> bool:
        """Whether these are what lies, and none of their files was replaced meanwhile."""
        with suppress(OSError):  # gone: loading it again says so
            same = (self.loras, self.adapter) == (loras, adapter)
            return same and self.stamp == stamp_of(self.files)
        return False


def is_dressed(part: Part, name: str, spec: GroupSpec, model: Model) -> bool:
    """Whether what the group wants lies over the component, and nothing else."""
    loras, adapter = _wanted(name, spec, model)
    if part.laid is None:
        return not loras and adapter is None
    return bool(part.laid.still_is(loras, adapter))


def dress(pool: Pool, part: Part, name: str, spec: GroupSpec, model: Model) -> None:
    """Lay over a component what the group wants there, and lift what it does not.

    Fetches what is not here yet. If it fails, the component is dropped from the pool.
    """
    loras, adapter = _wanted(name, spec, model)
    pool.rest(part)  # what is laid must come and go with the weights it lies over
    try:
        if part.laid is not None and part.laid.loras:
            lift({name: part.module})
        if part.laid is not None or adapter is not None:
            attach(part.module, adapter)
        if loras:
            lay({name: part.module}, loras, model.card.family)
        part.laid = _Laid.now(loras, adapter)
    except BaseException:
        pool.drop(part)  # half dressed: the next task must not meet it
        raise
    pool.weigh(part)


def _wanted(name: str, spec: GroupSpec, model: Model) -> tuple[tuple[Lora, ...], IpAdapter | None]:
    """LoRAs go over denoiser and text encoders, an IP-Adapter into the denoiser."""
    family = model.card.family
    denoises = name == family.denoiser
    takes_loras = denoises or name in {encoder for _, encoder in family.text_encoders}
    return spec.loras if takes_loras else (), spec.ip_adapter if denoises else None
