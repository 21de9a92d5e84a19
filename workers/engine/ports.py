"""What the claim loop asks of a renderer, and what it gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from storage.contract.capability import Mode
from storage.contract.items import GroupSpec
from storage.contract.outcomes import Reason
from workers.engine.batching import Batch

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What the renderer did, for the metadata of every image of a task."""

    dtype: str
    device: str
    weights: str
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """How the renderer tells what it does, and is told to stop.

    `tell(phase, batch, step)` is called at least once a denoising step and raises
    `Interrupted` when the task must be given up at once.
    """

    tell: Callable[[str, int, int], None]
    stop_after_batch: Callable[[], bool]


class Renderer(Protocol):
    """Renders the batches of one group after another on one device."""

    @property
    def loaded_model(self) -> str | None:
        """The model that would need no loading."""

    def render(
        self, spec: GroupSpec, mode: Mode, batches: Sequence[Batch], watch: Watch
    ) -> Iterator[tuple[Facts, list[Picture]]]:
        """The wanted pictures, batch by batch in order.

        Raises `OutOfMemory`, `DeviceLost`, `ModelUnusable` or `Interrupted`.
        """
