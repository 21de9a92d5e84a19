"""The renderer: a task's phases on one device, and what is rendered again in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec
import torch

from storage.contract.capability import Mode, ModeNeed
from storage.contract.items import GroupSpec
from workers.engine.batching import Batch
from workers.engine.benches import Benches
from workers.engine.clock import Clock
from workers.engine.course import Course
from workers.engine.devices import Device, open_device
from workers.engine.families.registry import adapter_of
from workers.engine.ladder import Rung, first_rung
from workers.engine.models import Model, find_model, hash_of
from workers.engine.phases import Phases
from workers.engine.pool import Pool
from workers.engine.ports import Facts, Picture, PictureSource, Watch
from workers.engine.task import Task

if TYPE_CHECKING:
    from workers.engine.ports import Renderer

SAFE_DTYPE: Final = "float32"


class DiffusionRenderer:
    """Renders with diffusers on one device, keeping components between tasks."""

    def __init__(
        self,
        *,
        device: Device,
        kind: str,
        dtypes: tuple[str, ...],
        sources: PictureSource | None = None,
        host_limit: int | None = None,
    ) -> None:
        """`kind` names the device in metadata; `dtypes` are usable ones, best first.

        `sources` opens input pictures; `host_limit` bounds the components kept in host memory.
        """
        self.device = device
        self.pool = Pool(device, host_limit=host_limit)
        self._kind = kind
        self._dtypes = dtypes
        self._sources = sources
        self._models: dict[tuple[str, str | None], Model] = {}
        self._last: str | None = None
        self._learned: dict[str, Rung] = {}
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._versions = _versions()

    @property
    def loaded_model(self) -> str | None:
        """The model that would need no loading."""
        return self._last

    def render(
        self, spec: GroupSpec, rung: ModeNeed, batches: Sequence[Batch], watch: Watch
    ) -> Iterator[tuple[Facts, list[Picture]]]:
        """The wanted pictures; those that had to be rendered again come last."""
        self.pool.begin()
        self.device.reset_peak()
        clock = Clock()
        with clock.timing("load"):
            watch.tell("load", 0, 0)
            model = self._model(spec)
        hashed = self._hashing.submit(hash_of, model, spec, {})
        run = _Run(renderer=self, spec=spec, model=model, clock=clock, watch=watch, hashed=hashed)
        dtype = self._dtypes[0] if spec.dtype == "auto" else spec.dtype
        start = self._first_rung(spec, rung)
        yield from run.through(Task(batches=batches), dtype, start)
        self._last = spec.model

    def course(
        self, run: _Run, task: Task, dtype: str, rung: Rung, *, safe: bool = False
    ) -> Course:
        """A task's course in one dtype; from a `safe` repetition nothing is learned."""
        benches = Benches(
            device=self.device,
            pool=self.pool,
            model=run.model,
            adapter=adapter_of(run.model.card.family),
            spec=run.spec,
            dtype=dtype,
            mode=rung.mode,
            loading=lambda: run.watch.tell("load", 0, 0),
        )
        phases = Phases(
            benches=benches,
            spec=run.spec,
            sources=self._sources,
            watch=run.watch,
            clock=run.clock,
        )
        return Course(
            task=task,
            phases=phases,
            rung=rung,
            pool=self.pool,
            watch=run.watch,
            learned=(lambda _: None) if safe else lambda rung: self._learn(run.spec, rung),
        )

    def facts(self, run: _Run, dtype: str, rung: Rung, images: int) -> Facts:
        """What is to be said of pictures that came from `rung`."""
        return Facts(
            dtype=dtype,
            device=self._kind,
            weights=run.hashed.result(),
            versions=self._versions,
            mode=rung.mode,
            batch=rung.shape,
            steps_down=rung.steps,
            attention=_attention(),
            peak_bytes=self.device.peak_bytes(),
            image_seconds=run.clock.rendering / images if images else 0.0,
            phase_seconds=dict(run.clock.seconds),
        )

    def _model(self, spec: GroupSpec) -> Model:
        key = (spec.model, spec.revision)
        if key not in self._models:
            self._models[key] = find_model(*key)
        return self._models[key]

    def _first_rung(self, spec: GroupSpec, need: ModeNeed) -> Rung:
        learned = self._learned.get(spec.profile_key)
        if learned is not None:
            return learned
        if not self.device.has_own_memory and not need.mode.on_cpu:
            need = msgspec.structs.replace(need, mode=Mode.CPU)
        return first_rung(need, spec.batch)

    def _learn(self, spec: GroupSpec, rung: Rung) -> None:
        """The next task of this kind begins where this one got to."""
        self._learned[spec.profile_key] = rung


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """One call of `render`."""

    renderer: DiffusionRenderer
    spec: GroupSpec
    model: Model
    clock: Clock
    watch: Watch
    hashed: Future[str]

    def through(self, task: Task, dtype: str, rung: Rung) -> Iterator[tuple[Facts, list[Picture]]]:
        """A task's pictures in `dtype`, and then what must be done again in a safe one."""
        course = self.renderer.course(self, task, dtype, rung)
        for pictures in course.pictures():
            yield self._facts(course, dtype), pictures
        faulty = {**task.again, **task.recode}
        if not faulty or self.watch.stop_after_batch():
            return
        if dtype == SAFE_DTYPE:
            yield self._facts(course, dtype), list(faulty.values())
            return
        yield from self._again(course, dtype)

    def _again(self, course: Course, dtype: str) -> Iterator[tuple[Facts, list[Picture]]]:
        """First only the decoding, where the latents are sound; then all the phases."""
        task = course.task
        rung = course.rung
        course.phases.benches.close()
        facts = self._facts(course, dtype)
        if task.recode:
            recoded = self._recoded(task, rung)
            if recoded:
                yield facts, recoded
        if task.again:
            yield facts, self._all_again(task, rung)

    def _recoded(self, task: Task, rung: Rung) -> list[Picture]:
        """What decoding in float32 mends; the rest is to be rendered again."""
        kept = {number: task.latents[number] for number in task.recode}
        once = Task(batches=_only(task.batches, set(task.recode)), latents=dict(kept))
        once.beyond = task.beyond
        course = self.renderer.course(self, once, SAFE_DTYPE, rung, safe=True)
        course.decodes_only = True
        done = [picture for pictures in course.pictures() for picture in pictures]
        for number, first in list(task.recode.items()):
            if number not in once.pictures:
                task.again[number] = first
        task.recode.clear()
        return [replace(picture, retried_in=SAFE_DTYPE, retried_phase="decode") for picture in done]

    def _all_again(self, task: Task, rung: Rung) -> list[Picture]:
        once = Task(batches=_only(task.batches, set(task.again)))
        course = self.renderer.course(self, once, SAFE_DTYPE, rung, safe=True)
        done = [picture for pictures in course.pictures() for picture in pictures]
        faulty = {**once.again, **once.recode}
        return [
            *(replace(picture, retried_in=SAFE_DTYPE) for picture in done if not picture.fault),
            *(picture for picture in done if picture.fault),
            *(
                replace(picture, detail=f"{picture.detail}, in {SAFE_DTYPE} too")
                for picture in faulty.values()
            ),
        ]

    def _facts(self, course: Course, dtype: str) -> Facts:
        done = len(course.task.given)
        return self.renderer.facts(self, dtype, course.rung, done)


def _only(batches: Sequence[Batch], wanted: set[int]) -> list[Batch]:
    """The batches that hold these items, at their full shape, with nothing else wanted."""
    chosen = []
    for batch in batches:
        kept = tuple(one for one in batch.wanted if one[1] in wanted)
        if kept:
            filler = batch.slots[kept[0][0]]
            at = {place for place, _ in kept}
            slots = tuple(s if p in at else filler for p, s in enumerate(batch.slots))
            chosen.append(Batch(slots=slots, wanted=kept))
    return chosen


def _attention() -> str:
    """Which of torch's scaled dot product attentions are switched on, best first."""
    if not torch.cuda.is_available():
        return "sdpa"
    names = ("cudnn", "flash", "mem_efficient", "math")
    asked = {name: getattr(torch.backends.cuda, f"{name}_sdp_enabled") for name in names}
    return "sdpa " + "+".join(name for name, enabled in asked.items() if enabled())


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "diffusers", "transformers")}


if TYPE_CHECKING:
    _renderer: Renderer = DiffusionRenderer(device=open_device("cpu"), kind="", dtypes=())
