"""One contestant, in a process of its own: pictures from a model, saved as PNG; prints JSON.

    python -m tests.benchmarks.engine.contestant WHO MODEL FOLDER --images 8 --batch 4 ...

`bare` is the loop everybody writes: diffusers' pipeline in batches, each picture saved. `engine`
is Rendermill's renderer with its encoder, pictures encoded beside it as a worker does. Both load
the same weights in the same dtype, and both count from the start of their process. After the
pictures each goes to `--other` and back, if named, to time a switch of models.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch

from storage.contract.capability import Mode, ModeNeed
from storage.contract.items import BatchShape, GroupSpec
from storage.contract.output import OutputOptions
from storage.models.resolve import describe
from storage.testing.factories import make_item
from workers.engine.batching import plan
from workers.engine.devices import Device, open_device
from workers.engine.diffusion import DiffusionRenderer
from workers.engine.ports import Watch
from workers.output.encode import encode_picture

GUIDANCE = 7.5


def main() -> None:
    """Run one contestant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("who", choices=("bare", "engine"))
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mode", default="")
    parser.add_argument("--vram-limit", type=int, help="bytes; a CPU with it is a simulated card")
    parser.add_argument("--other", help="a second model, to time a switch")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    told = _bare(options) if options.who == "bare" else _engine(options)
    told["peak_bytes"] = told.get("peak_bytes") or _peak(options.device)
    print(json.dumps(told))


def _bare(options: argparse.Namespace) -> dict[str, Any]:
    from diffusers import DiffusionPipeline

    def load(model: str) -> Any:
        folder = describe(model).path
        pipeline = DiffusionPipeline.from_pretrained(
            folder, dtype=getattr(torch, options.dtype), use_safetensors=True
        ).to(options.device)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    started = _process_start()
    pipeline = load(options.model)
    loaded = time.perf_counter()
    marks = []
    for first in range(0, options.images, options.batch):
        numbers = range(first, min(first + options.batch, options.images))
        generators = [torch.Generator("cpu").manual_seed(n) for n in numbers]
        images = pipeline(
            [_prompt(n) for n in numbers],
            num_inference_steps=options.steps,
            guidance_scale=GUIDANCE,
            width=options.side,
            height=options.side,
            generator=generators,
        ).images
        for number, image in zip(numbers, images, strict=True):
            image.save(options.folder / f"{number:06d}.png")
        marks.append(time.perf_counter())
    told = _times(started, loaded, marks, options)
    if options.other:
        del pipeline
        before = time.perf_counter()
        other = load(options.other)
        del other
        load(options.model)
        told["switch_seconds"] = (time.perf_counter() - before) / 2
    return told


def _engine(options: argparse.Namespace) -> dict[str, Any]:
    started = _process_start()
    device = _Recorded(open_device(options.device, limit=options.vram_limit))
    renderer = DiffusionRenderer(device=device, kind="bench", dtypes=(options.dtype,))
    loaded: list[float] = []

    def tell(phase: str, _batch: int, _step: int) -> None:
        if phase == "denoise" and not loaded:
            loaded.append(time.perf_counter())

    marks = []
    watch = Watch(tell=tell, stop_after_batch=lambda: False)
    with ThreadPoolExecutor(2) as encoders:
        waiting = []
        for said, pictures in renderer.render(*_work(options, options.model, device), watch):
            facts = said
            for one in pictures:
                assert one.pixels is not None, one.detail
                waiting.append(encoders.submit(_save, one.pixels, one.item, options.folder))
            marks.append(time.perf_counter())
        for future in waiting:
            future.result()
        marks[-1] = time.perf_counter()
    told = _times(started, loaded[0], marks, options)
    told |= {"mode": str(facts.mode), "steps_down": list(facts.steps_down)}
    told["peak_bytes"] = facts.peak_bytes if device.has_own_memory else None
    told["idle_share"] = device.idle_share()
    if options.other:
        device.spans.clear()
        options.images = options.batch
        before = time.perf_counter()
        busy = 0.0
        for model in (options.other, options.model):
            for _ in renderer.render(*_work(options, model, device), watch):
                pass
        busy = sum(end - start for start, end in device.spans)
        told["switch_seconds"] = (time.perf_counter() - before - busy) / 2
    return told


def _work(options: argparse.Namespace, model: str, device: Device) -> tuple[Any, Any, Any]:
    card = describe(model)
    shape = BatchShape(
        encode=8, denoise=options.batch, decode=1 if options.side > 128 else options.batch
    )
    spec = GroupSpec(
        model=card.model,
        width=options.side,
        height=options.side,
        num_inference_steps=options.steps,
        guidance_scale=GUIDANCE,
        scheduler=card.scheduler,
        dtype=options.dtype,
        batch=shape,
    )
    mode = Mode(options.mode or ("resident" if device.has_own_memory else "cpu"))
    items = [make_item(n, prompt=_prompt(n), seed=n) for n in range(options.images)]
    batches = plan(items, first_item=0, group_first_item=0, batch_size=options.batch)
    return spec, ModeNeed(mode=mode, memory_bytes=0), batches


class _Recorded:
    """A device that remembers when it computed."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.spans: list[tuple[float, float]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """As the device, timed; a card works behind our back, so its queue is waited for."""
        with self._device.computing():
            start = time.perf_counter()
            yield
            if self._device.name.startswith("cuda"):
                torch.cuda.current_stream().synchronize()
            self.spans.append((start, time.perf_counter()))

    def idle_share(self) -> float:
        """Share of the time from first to last computation in which nothing was computed."""
        whole = self.spans[-1][1] - self.spans[0][0]
        return 1 - sum(end - start for start, end in self.spans) / whole


def _save(pixels: Any, number: int, folder: Path) -> None:
    (folder / f"{number:06d}.png").write_bytes(encode_picture(pixels, OutputOptions()))


def _times(
    started: float, loaded: float, marks: list[float], options: argparse.Namespace
) -> dict[str, Any]:
    return {
        "load_seconds": loaded - started,
        "first_image_seconds": marks[0] - started,
        "seconds": marks[-1] - started,
        "images_per_second": options.images / (marks[-1] - loaded),
    }


def _process_start() -> float:
    """When this process began, by the clock of `time.perf_counter`."""
    return time.perf_counter() - (time.time() - psutil.Process().create_time())


def _prompt(number: int) -> str:
    return f"a red thing {number % 5}, seen from afar, number {number}"


def _peak(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
