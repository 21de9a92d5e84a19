"""The renderer: encode every distinct text once, then denoise and decode batch by batch.

Each phase computes at a fixed shape (the group's `BatchShape`), padded where items run out,
because a result depends on the shape it was computed at.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from storage.contract.capability import Mode
from storage.contract.errors import DeviceLost, OutOfMemory
from storage.contract.families.record import Family
from storage.contract.families.stable_diffusion import STABLE_DIFFUSION
from storage.contract.items import GroupSpec
from storage.contract.outcomes import Reason
from workers.engine.batching import Batch
from workers.engine.families.base import DenoiseInputs, FamilyAdapter, Tensor
from workers.engine.families.stable_diffusion import StableDiffusion
from workers.engine.models import LoadedModel, load
from workers.engine.ports import Facts, Picture, Pixels, Watch

if TYPE_CHECKING:
    from workers.engine.ports import Renderer

_ADAPTERS: dict[Family, FamilyAdapter] = {STABLE_DIFFUSION: StableDiffusion()}
_SAFE_DTYPE = "float32"


class DiffusionRenderer:
    """Renders with diffusers on one device, keeping the model last used."""

    def __init__(self, *, device: str, kind: str, dtypes: tuple[str, ...]) -> None:
        """`kind` names the device in metadata; `dtypes` are usable ones, best first."""
        self._device = device
        self._kind = kind
        self._dtypes = dtypes
        self._model: LoadedModel | None = None
        self._key: tuple[str, str | None, str] | None = None
        self._versions = _versions()

    @property
    def loaded_model(self) -> str | None:
        """The model that would need no loading."""
        return self._key[0] if self._key else None

    def render(
        self, spec: GroupSpec, mode: Mode, batches: Sequence[Batch], watch: Watch
    ) -> Iterator[tuple[Facts, list[Picture]]]:
        """The wanted pictures, batch by batch."""
        dtype = self._dtypes[0] if spec.dtype == "auto" else spec.dtype
        watch.tell("load", 0, 0)
        model = self._loaded(spec, dtype)
        texts = _Texts(model, spec, batches, watch)
        for number, batch in enumerate(batches, 1):
            pictures = _render_batch(texts, spec, batch, watch, number)
            facts = self._facts(model)
            if dtype != _SAFE_DTYPE and any(picture.fault for picture in pictures):
                del model, texts  # make room: both precisions need not fit at once
                pictures = self._retried(spec, batch, pictures, watch, number)
                model = self._loaded(spec, dtype)
                texts = _Texts(model, spec, batches, watch)
            yield facts, pictures
            if watch.stop_after_batch():
                return

    def _retried(
        self, spec: GroupSpec, batch: Batch, first: list[Picture], watch: Watch, number: int
    ) -> list[Picture]:
        """The batch once more in float32; pictures that were right the first time stay."""
        model = self._loaded(spec, _SAFE_DTYPE)
        texts = _Texts(model, spec, [batch], watch)
        again = _render_batch(texts, spec, batch, watch, number)
        return [
            _marked(second, retried_in=_SAFE_DTYPE) if one.fault else one
            for one, second in zip(first, again, strict=True)
        ]

    def _loaded(self, spec: GroupSpec, dtype: str) -> LoadedModel:
        key = (spec.model, spec.revision, dtype)
        if self._model is None or self._key != key:
            self._model, self._key = None, None
            gc.collect()
            with _computing():
                self._model = load(spec.model, spec.revision, dtype=dtype, device=self._device)
            self._key = key
        return self._model

    def _facts(self, model: LoadedModel) -> Facts:
        return Facts(
            dtype=model.dtype, device=self._kind, weights=model.weights, versions=self._versions
        )


class _Texts:
    """Embeddings of every distinct text of a task, and how much of each was not read."""

    def __init__(
        self, model: LoadedModel, spec: GroupSpec, batches: Sequence[Batch], watch: Watch
    ) -> None:
        self._adapter = _ADAPTERS[model.family]
        self.model = model
        self._size = spec.batch.encode
        items = [batch.slots[place] for batch in batches for place, _ in batch.wanted]
        self._rows: dict[tuple[str, bool], Tensor] = {}
        self._encode([item.prompt for item in items], spec.clip_skip, False, watch)
        if spec.guidance_scale > 1:
            # Negative prompts are read to the encoder's last layer, as diffusers does.
            self._encode([item.negative_prompt for item in items], None, True, watch)
        self._lengths: dict[str, int] = {}

    def prompts(self, batch: Batch) -> Tensor:
        """Shape (batch, tokens, width)."""
        return self._stack([(item.prompt, False) for item in batch.slots])

    def negatives(self, batch: Batch) -> Tensor:
        """Shape (batch, tokens, width); there are none without guidance."""
        return self._stack([(item.negative_prompt, True) for item in batch.slots])

    def truncated(self, text: str) -> int:
        """Tokens of `text` beyond what the text encoder reads."""
        if text not in self._lengths:
            self._lengths[text] = self._adapter.count_tokens(self.model, text)
        return max(0, self._lengths[text] - self.model.token_limit)

    def _encode(
        self, texts: list[str], clip_skip: int | None, negative: bool, watch: Watch
    ) -> None:
        distinct = list(dict.fromkeys(texts))
        for start in range(0, len(distinct), self._size):
            watch.tell("encode", 0, 0)
            part = distinct[start : start + self._size]
            padded = part + [part[0]] * (self._size - len(part))
            with _computing():
                rows = self._adapter.encode(self.model, padded, clip_skip)
            for text, row in zip(part, rows, strict=False):
                self._rows[(text, negative)] = row

    def _stack(self, keys: list[tuple[str, bool]]) -> Tensor:
        import torch

        return torch.stack([self._rows[key] for key in keys])


def _render_batch(
    texts: _Texts, spec: GroupSpec, batch: Batch, watch: Watch, number: int
) -> list[Picture]:
    import torch

    model = texts.model
    adapter = _ADAPTERS[model.family]
    watch.tell("denoise", number, 0)
    with _computing():
        latents = adapter.denoise(
            model,
            spec,
            DenoiseInputs(
                prompts=texts.prompts(batch),
                negatives=texts.negatives(batch) if spec.guidance_scale > 1 else None,
                generators=[torch.Generator("cpu").manual_seed(item.seed) for item in batch.slots],
            ),
            lambda step: watch.tell("denoise", number, step),
        )
        watch.tell("decode", number, spec.num_inference_steps)
        sound = latents.isfinite().flatten(1).all(dim=1).tolist()
        decoded = _decode(adapter, model, latents, batch, spec.batch.decode)
        return [
            _picture(item, decoded[place], sound[place], texts.truncated(batch.slots[place].prompt))
            for place, item in batch.wanted
        ]


def _decode(
    adapter: FamilyAdapter, model: LoadedModel, latents: Tensor, batch: Batch, size: int
) -> dict[int, Tensor]:
    """Pictures by place in the batch: (height, width, 3) in 0 to 1. Unwanted rows are skipped."""
    import torch

    wanted = {place for place, _ in batch.wanted}
    decoded: dict[int, Tensor] = {}
    for start in range(0, batch.size, size):
        places = range(start, min(start + size, batch.size))
        if wanted.isdisjoint(places):
            continue
        rows = [latents[place] for place in places]
        rows += [rows[0]] * (size - len(rows))
        for place, picture in zip(places, adapter.decode(model, torch.stack(rows)), strict=False):
            decoded[place] = picture.permute(1, 2, 0)
    return decoded


def _picture(item: int, decoded: Tensor, sound: bool, truncated: int) -> Picture:
    if not sound or not bool(decoded.isfinite().all()):
        where = "pixels" if sound else "latents"
        return Picture(item=item, fault=Reason.NAN, detail=f"{where} are not finite")
    pixels = _to_bytes(decoded)
    if pixels.min() == pixels.max():
        return Picture(
            item=item, fault=Reason.CONSTANT, detail=f"every value is {int(pixels.min())}"
        )
    return Picture(item=item, pixels=pixels, truncated_tokens=truncated)


def _to_bytes(decoded: Tensor) -> Pixels:
    """As diffusers' image processor: clamp, scale, round half to even."""
    import torch

    return decoded.clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()


def _marked(picture: Picture, *, retried_in: str) -> Picture:
    detail = f"{picture.detail}, in {retried_in} too" if picture.fault else None
    return Picture(
        item=picture.item,
        pixels=picture.pixels,
        fault=picture.fault,
        detail=detail,
        truncated_tokens=picture.truncated_tokens,
        retried_in=None if picture.fault else retried_in,
    )


@contextmanager
def _computing() -> Iterator[None]:
    """No gradients, and the device's out-of-memory errors as `OutOfMemory`."""
    import torch

    try:
        with torch.inference_mode():
            yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(str(error).splitlines()[0] if str(error) else None) from error
    except RuntimeError as error:
        if "CUDA error" not in str(error):
            raise
        raise DeviceLost(str(error).splitlines()[0]) from error  # the context is dead


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "diffusers", "transformers")}


if TYPE_CHECKING:
    _renderer: Renderer = DiffusionRenderer(device="cpu", kind="", dtypes=())
