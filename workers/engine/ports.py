"""What the claim loop asks of a renderer, and what it gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from storage.contract.capability import Mode, ModeNeed
from storage.contract.items import BatchShape, GroupSpec, Item
from storage.contract.outcomes import Reason
from storage.contract.output import Safety
from workers.engine.batching import Batch
from workers.engine.families.base import Inputs

Pixels = Any
"""A numpy array of shape (height, width, 3), uint8, RGB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One item's pixels, or why there are none."""

    item: int
    pixels: Pixels | None = None
    fault: Reason | None = None
    detail: str | None = None
    truncated_tokens: int = 0
    retried_in: str | None = None  #: dtype in which a faulty picture came out right
    safety: Safety | None = None  #: what the safety checker said; None: it was not asked
    retried_phase: str | None = None  #: the only phase that was repeated; None: all of them


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What the renderer did, for the metadata of the images it comes with and for the profile."""

    dtype: str
    device: str
    weights: str  #: hash of all weights that were loaded, LoRAs and ControlNets too
    versions: dict[str, str]
    mode: Mode | None = None  #: in which they came to be; None: as the claim said
    batch: BatchShape | None = None  #: rows computed at once; None: as the group says
    steps_down: tuple[str, ...] = ()  #: rungs of the memory ladder that were taken
    loras: Mapping[str, str] = field(default_factory=dict)  #: hash of each by its label
    attention: str = ""  #: backend of scaled dot product attention
    compiled: bool = False  #: by torch.compile
    plain: bool = False  #: through the ordinary pipeline call: no record covers the model
    lossy: tuple[str, ...] = ()  #: accelerations that were asked for: quantization, caches
    peak_bytes: int = 0  #: largest memory of the device since the task began; 0: not measured
    image_seconds: float = 0.0  #: rendering time of one of these images, loading left out
    licence: str | None = None  #: of the model, as its card names it
    phase_seconds: Mapping[str, float] = field(default_factory=dict)
    """Of the task so far, by phase; "load" among them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """How the renderer tells what it does, and is told to stop.

    `tell(phase, batch, step)` is called at least once a denoising step and raises
    `Interrupted` when the task must be given up at once.
    """

    tell: Callable[[str, int, int], None]
    stop_after_batch: Callable[[], bool]
    ran_out: Callable[[ModeNeed], None] = lambda _rung: None
    """Told of each rung that ran out of memory; its `memory_bytes` is all there was."""


class PictureSource(Protocol):
    """Opens the input pictures of items."""

    def inputs_of(self, item: Item, spec: GroupSpec) -> Inputs:
        """The item's pictures, checked and at the group's size.

        Raises `InputUnusable` (a picture is damaged or refused: that item's fault alone) or
        `ObjectError`.
        """

    def prefetch(self, items: Sequence[Item]) -> None:
        """Begin to fetch what these items need; returns at once."""


class Renderer(Protocol):
    """Renders the batches of one group after another on one device."""

    @property
    def loaded_model(self) -> str | None:
        """The model that would need no loading."""

    def render(
        self, spec: GroupSpec, rung: ModeNeed, batches: Sequence[Batch], watch: Watch
    ) -> Iterator[tuple[Facts, list[Picture]]]:
        """The wanted pictures, as they come: each item once, some of them at a time.

        They come batch by batch where the mode allows it, but pictures that had to be rendered
        again come last. `rung` is where the claim begins. A better or lesser mode may be taken,
        which changes no pixel; a smaller shape is recorded in the facts.

        Raises `OutOfMemory`, `DeviceLost`, `ModelUnusable` or `Interrupted`.
        """
