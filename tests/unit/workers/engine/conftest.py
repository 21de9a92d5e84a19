"""What tests of the engine share: a task rendered on some device, told and stopped by nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch

from storage.contract.capability import Mode, ModeNeed
from storage.contract.items import GroupSpec, Item
from storage.testing.factories import make_item, make_spec
from tests.models.rendering import Rendered, rendered
from workers.engine.devices import Device
from workers.engine.diffusion import DiffusionRenderer

ITEMS = tuple(
    make_item(n, prompt=f"a red thing {n % 3}", negative_prompt="dull" * (n % 2), seed=100 + n)
    for n in range(8)
)


Render = Callable[..., Rendered]


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """As a CPU worker for small pictures."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def items() -> tuple[Item, ...]:
    """What is rendered where a test names nothing else."""
    return ITEMS


@pytest.fixture
def spec(tiny_model: Path) -> GroupSpec:
    """Two batches of four."""
    return make_spec(model=str(tiny_model), num_inference_steps=3, denoise=4)


@pytest.fixture
def make_renderer() -> Callable[..., DiffusionRenderer]:
    """A renderer of float32 on the given device."""

    def made(device: Device, **options: object) -> DiffusionRenderer:
        return DiffusionRenderer(
            device=device,
            kind="cpu/1",
            dtypes=("float32",),
            **options,  # type: ignore[arg-type]
        )

    return made


@pytest.fixture
def render() -> Render:
    """Renders a task to its end, unless `stop` says otherwise after a batch."""

    def run(
        renderer: DiffusionRenderer,
        spec: GroupSpec,
        mode: Mode = Mode.CPU,
        items: Sequence[Item] = ITEMS,
        first_item: int = 0,
        rung: ModeNeed | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Rendered:
        need = rung or ModeNeed(mode=mode, memory_bytes=0)
        return rendered(renderer, spec, need, items, first_item=first_item, stop=stop)

    return run
