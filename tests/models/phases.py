"""A family's adapter run phase by phase, each with its own components and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from storage.contract.families.registry import family_of
from storage.contract.items import GroupSpec, Item
from workers.engine.assembly import assemble
from workers.engine.families.base import Bench, DenoiseInputs, FamilyAdapter, Inputs, Phase
from workers.engine.families.registry import adapter_of

_STAND_IN = ("vae", "unet", "transformer")
Dress = Callable[[str, Any], None]


def open_whole(folder: Path, pipeline_class: str | None = None, **components: Any) -> Any:
    """Diffusers' own pipeline, of another class than the folder's if one is named."""
    import diffusers

    whole = diffusers.DiffusionPipeline.from_pretrained(folder, use_safetensors=True, **components)
    if pipeline_class is not None and type(whole).__name__ != pipeline_class:
        whole = getattr(diffusers, pipeline_class).from_pipe(whole, **components)
    whole.set_progress_bar_config(disable=True)
    if getattr(whole, "watermark", None) is not None:
        whole.watermark = None
    return whole


def generators(items: Sequence[Item]) -> list[torch.Generator]:
    """Each item's own source of noise."""
    return [torch.Generator("cpu").manual_seed(item.seed) for item in items]


@dataclass
class Phased:
    """A model rendered through its adapter; `whole` gives the components."""

    whole: Any
    spec: GroupSpec
    extras: dict[str, Any] = field(default_factory=dict)
    dress: Dress = lambda _name, _component: None
    steps: list[int] = field(default_factory=list)
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        family = family_of(type(self.whole).__name__)
        assert family is not None
        self.family = family
        self.adapter: FamilyAdapter = adapter_of(family)

    def bench(self, *names: str) -> Bench:
        """With these components and what has no weights."""
        every = {**self.whole.components, **self.extras}
        light = {n: c for n, c in every.items() if not isinstance(c, torch.nn.Module)}
        chosen = {name: every[name] for name in names}
        for name, component in chosen.items():
            self.dress(name, component)
        nets = [chosen.pop(name) for name in names if name.startswith("controlnet.")]
        if nets:
            chosen["controlnet"] = nets[0] if len(nets) == 1 else nets
        configs = {n: every[n].config for n in _STAND_IN if every.get(n) is not None}
        settings = {k: v for k, v in self.whole.config.items() if isinstance(v, bool)}
        kinds = self.family.controlnet_pipelines if self.spec.controlnets else self.family.pipelines
        return Bench(
            pipeline=assemble(kinds[self.spec.kind], {**light, **chosen}, configs | settings),
            card=None,  # type: ignore[arg-type]
            spec=self.spec,
            device="cpu",
            dtype=self.dtype,
        )

    def encoded(self, texts: Sequence[str], *, negative: bool) -> list[Any]:
        """Rows of all texts, one encoder after the other."""
        named = self.adapter.components(self.spec, Phase.ENCODE)
        encoders = [name for name in named if self.whole.components[name] is not None]
        rows = {
            name: self.adapter.encode(self.bench(name), name, texts, negative=negative)
            for name in encoders
        }
        return [
            self.adapter.join(self.spec, {name: rows[name][n] for name in encoders})
            for n in range(len(texts))
        ]

    def pictures(self, items: Sequence[Item], inputs: Sequence[Inputs]) -> np.ndarray:
        """Shape (n, height, width, 3), uint8."""
        adapter, spec = self.adapter, self.spec
        with torch.no_grad():
            prompts = self.encoded([item.prompt for item in items], negative=False)
            negatives = None
            if adapter.needs_negatives(spec):
                negatives = self.encoded([item.negative_prompt for item in items], negative=True)
            noise = generators(items)
            looking = self.bench(*adapter.components(spec, Phase.CONDITION))
            conditions = adapter.condition(looking, inputs, noise)
            latents = adapter.denoise(
                self.bench(*adapter.components(spec, Phase.DENOISE)),
                DenoiseInputs(
                    items=items,
                    prompts=prompts,
                    negatives=negatives,
                    conditions=conditions,
                    generators=noise,
                ),
                self.steps.append,
            )
            decoded = adapter.decode(self.bench(*adapter.components(spec, Phase.DECODE)), latents)
        assert decoded.dtype == torch.float32
        return to_bytes(decoded.permute(0, 2, 3, 1).numpy())


def to_bytes(values: np.ndarray) -> np.ndarray:
    """0..1 as diffusers' image processor makes bytes of it."""
    return (values.clip(0, 1) * 255).round().astype("uint8")


def drawing(number: int, width: int, height: int) -> Image.Image:
    """A picture to start from: colours that run, and a square."""
    rows, columns = np.mgrid[0:height, 0:width]
    red = (columns * 255 // width + number * 40) % 256
    pixels = np.stack([red, rows * 255 // height, np.full_like(rows, 60 * number % 256)], -1)
    pixels[height // 4 : height // 2, width // 4 : width // 2] = (250, 20 * number, 90)
    return Image.fromarray(pixels.astype("uint8"))


def mask(number: int, width: int, height: int) -> Image.Image:
    """White, painted anew, on one side."""
    pixels = np.zeros((height, width), dtype="uint8")
    pixels[:, : width // (2 + number % 2)] = 255
    return Image.fromarray(pixels)
