"""Items and the groups they are rendered in.

Both travel: items in shards (msgpack arrays, so field order is the wire format: only ever
append, with a default), group specs as JSON in SQL. Field names are diffusers'.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Final

import msgspec

SEED_MAX: Final = 2**32 - 1
"""The largest seed. ``torch.Generator('cpu')`` silently drops higher bits, so they are refused."""

TEXT_TO_IMAGE: Final = "text-to-image"
IMAGE_TO_IMAGE: Final = "image-to-image"
INPAINT: Final = "inpaint"
DEPTH_TO_IMAGE: Final = "depth-to-image"
UPSCALE: Final = "upscale"
IMPORTED: Final = "imported"
"""Of a group whose pictures other programs made; never of one to be rendered."""

KINDS: Final = (TEXT_TO_IMAGE, IMAGE_TO_IMAGE, INPAINT, DEPTH_TO_IMAGE, UPSCALE)
"""What a group's items are made from."""

UPSCALE_FACTOR: Final = 4
"""How much longer the sides of what `UPSCALE` makes are than those of its input picture."""

WEIGHTED: Final = "weighted"
"""The syntax of prompts in which ``(word:1.3)`` weighs a word."""


class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One image to make: what differs between the items of a group."""

    row: int  #: data row of the manifest, from 0, rejected rows counted
    line: int  #: line of the manifest, from 1; a Parquet row or a YAML item counts as one
    image_no: int  #: which image of its row, from 0
    prompt: str
    negative_prompt: str
    seed: int  #: 0 to SEED_MAX
    tags: dict[str, str]  #: columns of the manifest that are not fields
    image: str | None = None  #: object key of the picture to start from
    mask_image: str | None = None  #: object key of the mask: white is painted anew
    control_images: tuple[str, ...] = ()  #: object keys, one for each ControlNet of the group
    ip_adapter_image: str | None = None  #: object key of the picture the IP-Adapter looks at
    template: str | None = None  #: the prompt as the manifest has it, where it was expanded
    negative_template: str | None = None  #: the negative prompt likewise

    @property
    def pictures(self) -> tuple[str, ...]:
        """Object keys of all pictures it is made from."""
        named = (self.image, self.mask_image, *self.control_images, self.ip_adapter_image)
        return tuple(key for key in named if key is not None)


class Lora(msgspec.Struct, frozen=True, kw_only=True):
    """A LoRA adapter laid over a group's model."""

    id: str  #: a folder, a .safetensors file, or a hub id
    weight: float = 1.0
    revision: str | None = None  #: commit of the hub repository
    weight_name: str | None = None  #: the file, where a repository has several

    @property
    def label(self) -> str:
        """Its id, and the file where it is named: two may come from one repository."""
        return self.id if self.weight_name is None else f"{self.id}/{self.weight_name}"


class ControlNet(msgspec.Struct, frozen=True, kw_only=True):
    """A ControlNet that guides a group; its items hold a control image for each."""

    model: str  #: a folder or a hub id
    revision: str | None = None
    scale: float = 1.0  #: diffusers' controlnet_conditioning_scale
    start: float = 0.0  #: share of the steps at which it begins (control_guidance_start)
    end: float = 1.0  #: and ends


class IpAdapter(msgspec.Struct, frozen=True, kw_only=True):
    """An IP-Adapter: items hold the picture it takes after."""

    model: str  #: a folder or a hub id
    revision: str | None = None
    subfolder: str = "models"
    weight_name: str = "ip-adapter_sd15.safetensors"
    scale: float = 1.0


class Upscaler(msgspec.Struct, frozen=True, kw_only=True):
    """A second stage: each picture is made larger by another model before it is stored."""

    model: str
    revision: str | None = None
    factor: int = 4
    num_inference_steps: int = 75
    guidance_scale: float = 9.0
    noise_level: int = 20


class BatchShape(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows each phase computes at once.

    Pixels depend on these three numbers and not on what else is in the batch, so they are
    chosen once, at submit, and never by the worker (only the memory ladder steps below them,
    and says so on the image).
    """

    encode: int = 8
    denoise: int = 1
    decode: int = 1


class GroupSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the items of a group have in common: all that must match inside one batch."""

    kind: str = TEXT_TO_IMAGE
    model: str  #: "starter", a hub id, or a folder
    revision: str | None = None  #: commit of the hub model; None for folders
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    scheduler: str  #: canonical name of `storage.contract.samplers`
    clip_skip: int | None = None
    dtype: str = "auto"  #: auto, float32, bfloat16 or float16
    batch: BatchShape = BatchShape()
    strength: float | None = None  #: how much of the input picture is painted anew, 0 to 1
    loras: tuple[Lora, ...] = ()
    controlnets: tuple[ControlNet, ...] = ()
    ip_adapter: IpAdapter | None = None
    upscaler: Upscaler | None = None
    noise_level: int | None = None  #: of the x4 upscaler's own kind
    true_cfg_scale: float | None = None  #: for models whose guidance_scale is an input of theirs
    max_sequence_length: int | None = None  #: tokens a T5 or LLM encoder reads
    prompt_syntax: str = "plain"  #: plain, or weighted: ``(word:1.3)``
    resize_mode: str = "crop"  #: how input pictures are brought to size: crop, pad or stretch
    quantization: str | None = None  #: lossy, only when asked for
    cache: str | None = None  #: lossy caching hook, only when asked for
    compile: str = "never"  #: whether the denoiser's blocks go through torch.compile

    @property
    def needs_picture(self) -> bool:
        """Whether items are made from an input picture."""
        return self.kind != TEXT_TO_IMAGE

    @property
    def picture_size(self) -> tuple[int, int]:
        """Width and height that its input pictures are brought to."""
        factor = UPSCALE_FACTOR if self.kind == UPSCALE else 1
        return self.width // factor, self.height // factor

    @property
    def pixels(self) -> int:
        """Pixels of one image."""
        return self.width * self.height

    @property
    def profile_key(self) -> str:
        """What decides speed and memory on one kind of device."""
        revision = f"@{self.revision}" if self.revision else ""
        key = (
            f"{self.model}{revision} {self.width}x{self.height} steps={self.num_inference_steps}"
            f" batch={self.batch.denoise} dtype={self.dtype}"
        )
        return " ".join((key, *(f"{name}={value}" for name, value in self._costs())))

    def _costs(self) -> Iterator[tuple[str, object]]:
        """What else costs time or memory, where it is not as most groups have it."""
        if self.kind != TEXT_TO_IMAGE:
            yield "kind", self.kind
        if self.batch.decode > 1:
            yield "decode", self.batch.decode
        if self.scheduler in TWICE_A_STEP:
            yield "order", 2
        for name in ("strength", "max_sequence_length", "quantization", "cache"):
            if (value := getattr(self, name)) is not None:
                yield name, value
        if self.compile == COMPILED:
            yield "compile", self.compile
        yield from self._guidance_costs()
        yield from self._adapter_costs()

    def _guidance_costs(self) -> Iterator[tuple[str, object]]:
        if self.guidance_scale <= 1:
            yield "guidance", "none"
        if self.true_cfg_scale is not None:
            yield "true_cfg", "none" if self.true_cfg_scale <= 1 else "beside"

    def _adapter_costs(self) -> Iterator[tuple[str, object]]:
        if self.loras:  # which ones they are hardly matters
            yield "loras", len(self.loras)
        for net in self.controlnets:
            yield "controlnet", _at(net.model, net.revision)
        if self.ip_adapter is not None:
            adapter = self.ip_adapter
            yield "ip_adapter", _at(adapter.model, adapter.revision, adapter.weight_name)
        if self.upscaler is not None:
            one = self.upscaler
            steps = f"x{one.factor} steps={one.num_inference_steps}"
            yield "upscaler", f"{_at(one.model, one.revision)} {steps}"


NEVER: Final = "never"
COMPILED: Final = "always"
COMPILE_AUTO: Final = "auto"
"""Settled at submit, as one of the two before: by the length of the group."""

TWICE_A_STEP: Final = frozenset({"heun", "dpm2", "dpm2_karras", "dpm2_a", "dpm2_a_karras"})
"""Samplers that ask the denoiser twice a step."""


def _at(name: str, revision: str | None, file: str | None = None) -> str:
    return name + (f"@{revision}" if revision else "") + (f"/{file}" if file else "")


_SEED_INPUT: Final = struct.Struct("<QQQ")


def derive_seed(job_seed: int, row: int, image_no: int) -> int:
    """The seed of an item whose row names none: a function of these three numbers only.

    The sweep's place is left out on purpose, so that one row keeps its noise over all values
    of a sweep and the pictures can be compared.
    """
    digest = hashlib.blake2b(_SEED_INPUT.pack(job_seed, row, image_no), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def batches(start: int, stop: int, size: int, *, origin: int = 0) -> Iterator[tuple[int, int]]:
    """Cut ``[start, stop)`` at the group's batch borders: multiples of `size` from `origin`.

    A group's batches are fixed by position, so a range that starts or ends inside a batch
    yields a part of it; the renderer still computes that batch at its full shape.
    """
    at = start
    while at < stop:
        border = origin + ((at - origin) // size + 1) * size
        yield at, min(border, stop)
        at = min(border, stop)


def batch_size_for(length: int, preferred: int) -> int:
    """The batch size near `preferred` that wastes least on a group of `length` items.

    17 items with a preferred size of 16 become two batches of 9, not 16 and 1 padded to 16.
    """
    if length < 1 or preferred < 1:
        raise ValueError(f"length and preferred must be positive, not {length} and {preferred}")
    count = -(-length // preferred)
    return -(-length // count)
