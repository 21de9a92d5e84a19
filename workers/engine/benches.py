"""Benches: for each phase its components on the device, and a pipeline around them.

What lies on the device beside them is what the mode says: all of the model, the denoiser and
its decoder, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch

from storage.contract.capability import Mode
from storage.contract.items import GroupSpec
from workers.engine.assembly import assemble
from workers.engine.compiling import compile_blocks, compiles
from workers.engine.components import load_component
from workers.engine.devices import Device
from workers.engine.dressing import dress, is_dressed
from workers.engine.families.base import Bench, FamilyAdapter, Phase
from workers.engine.lossy import accelerate, lossy_of
from workers.engine.models import CONTROLNET, IMAGE_ENCODER, Model
from workers.engine.pool import Part, Pool
from workers.engine.progress import telling

_AFTER_ENCODING = (Phase.CONDITION, Phase.DENOISE, Phase.DECODE)


@dataclass(kw_only=True)
class Benches:
    """Makes the benches of one group in one dtype."""

    device: Device
    pool: Pool
    model: Model
    adapter: FamilyAdapter
    spec: GroupSpec
    dtype: str
    mode: Mode
    loading: Callable[[], None] = lambda: None  #: called before anything is loaded
    _keys: dict[str, Hashable] = field(default_factory=dict)
    _made: dict[tuple[Phase, str | None], Bench] = field(default_factory=dict)
    _laid_out: tuple[Phase, str | None, Mode] | None = None

    def components(self, phase: Phase) -> tuple[str, ...]:
        """What the adapter needs for `phase`, but text encoders the model was saved without."""
        names = self.adapter.components(self.spec, phase)
        if phase is not Phase.ENCODE:
            return names
        return tuple(name for name in names if name in self.model.weighted)

    def bench(self, phase: Phase, encoder: str | None = None) -> Bench:
        """The bench of `phase`; for encoding that of one text encoder."""
        names = (encoder,) if encoder is not None else self.components(phase)
        if self._laid_out != (phase, encoder, self.mode):
            self._laid_out = None
            self._lay_out(phase, names)
            self._laid_out = (phase, encoder, self.mode)
        if phase is Phase.DENOISE:
            wanted = compiles(self.device, self.spec, self.mode)
            compile_blocks(self.denoiser, self.spec, wanted=wanted)
        key = (phase, encoder)
        if key not in self._made:
            self._made[key] = self._assembled(names)
        return self._made[key]

    @property
    def denoiser(self) -> Part:
        """The component that denoises."""
        return self.part(self.model.card.family.denoiser)

    def part(self, name: str) -> Part:
        """One component, loaded if need be."""
        source = self.model.source(name, self.spec, self.dtype)

        def load() -> Any:
            with telling(self.loading):
                module = load_component(source)
            return accelerate(module, self.spec, self.dtype) if self._asks(name) else module

        part = self.pool.get(self._key(name), name, load, source.stored_bytes)
        if not is_dressed(part, name, self.spec, self.model):
            with telling(self.loading):
                dress(self.pool, part, name, self.spec, self.model)
        return part

    def step_down(self, mode: Mode) -> None:
        """Go on in a lesser mode."""
        self.mode = mode
        self.close()

    def close(self) -> None:
        """Let go of the pipelines; the components stay in the pool."""
        self._made.clear()
        self._laid_out = None

    def _lay_out(self, phase: Phase, names: tuple[str, ...]) -> None:
        if self.mode is Mode.CPU_PHASED:
            self._made.clear()
            self.pool.forget_but(self.part(n) for n in names if self._is_kept(n))
        parts = [self.part(name) for name in names]
        match self.mode:
            case Mode.RESIDENT:
                self.pool.place(parts, keep=[self.part(n) for n in self._all() if self._is_kept(n)])
            case Mode.LEAN if phase in _AFTER_ENCODING:
                together = [self.part(name) for name in self._after_encoding()]
                self.pool.only(together)
                self.pool.place(together)
            case Mode.LEAN | Mode.PHASED:
                self.pool.only(parts)
                self.pool.place(parts)
            case Mode.OFFLOAD:
                self.pool.only(parts)
                for part in parts:
                    self._place_or_stream(part, phase)

    def _place_or_stream(self, part: Part, phase: Phase) -> None:
        """Text encoders and denoisers are streamed; a VAE is small, and computes in one go."""
        if phase in (Phase.ENCODE, Phase.DENOISE):
            self.pool.stream(part)
        else:
            self.pool.place([part])

    def _all(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(n for phase in Phase for n in self.components(phase)))

    def _after_encoding(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(n for phase in _AFTER_ENCODING for n in self.components(phase)))

    def _key(self, name: str) -> Hashable:
        """Components of the same key are the same."""
        if name not in self._keys:
            source = self.model.source(name, self.spec, self.dtype)
            self._keys[name] = (source, source.stamp, *self._asks(name))
        return self._keys[name]

    def _asks(self, name: str) -> tuple[str, ...]:
        """What of the group's lossy accelerations concerns a component."""
        return lossy_of(self.spec) if name == self.model.card.family.denoiser else ()

    def _is_kept(self, name: str) -> bool:
        return self.pool.has(self._key(name))

    def _assembled(self, names: tuple[str, ...]) -> Bench:
        components: dict[str, object] = dict(self.model.weightless)
        modules = {name: self.part(name).module for name in names}
        if IMAGE_ENCODER in modules:
            components.setdefault("feature_extractor", _image_processor(modules[IMAGE_ENCODER]))
        nets = [modules.pop(n) for n in list(modules) if n.startswith(CONTROLNET)]
        if nets:
            components["controlnet"] = nets[0] if len(nets) == 1 else nets
        configs = self.model.configs(self.spec, self.dtype)
        pipeline = assemble(self._pipeline_class(), components | modules, configs)
        return Bench(
            pipeline=pipeline,
            card=self.model.card,
            spec=self.spec,
            device=self.device.name,
            dtype=getattr(torch, self.dtype),
        )

    def _pipeline_class(self) -> str:
        family = self.model.card.family
        kinds = family.controlnet_pipelines if self.spec.controlnets else family.pipelines
        return kinds[self.spec.kind]


def _image_processor(encoder: Any) -> Any:
    """What CLIP's pictures go through, for models that bring none."""
    from transformers import CLIPImageProcessor

    side = encoder.config.image_size
    return CLIPImageProcessor(size={"shortest_edge": side}, crop_size=side)
