"""The renderer: a task's phases on one device, and what is rendered again in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec
import torch

from storage.contract.capability import Mode, ModeNeed
from storage.contract.items import GroupSpec, Upscaler
from workers.engine.batching import Batch
from workers.engine.benches import Benches
from workers.engine.clock import LOAD, Clock
from workers.engine.compiling import compiles
from workers.engine.course import Course
from workers.engine.devices import Device, open_device
from workers.engine.families.registry import adapter_of
from workers.engine.ladder import Rung, first_rung
from workers.engine.lossy import lossy_of
from workers.engine.models import Hashes, Model, find_model, hashes_of
from workers.engine.phases import Phases
from workers.engine.plain import PlainCourse
from workers.engine.pool import Pool
from workers.engine.ports import Facts, Picture, PictureSource, Watch
from workers.engine.progress import telling
from workers.engine.second import (
    first_spec,
    merged_facts,
    merged_picture,
    second_batches,
    second_spec,
)
from workers.engine.task import Task

if TYPE_CHECKING:
    from workers.engine.ports import Renderer

SAFE_DTYPE: Final = "float32"

KEPT_MODELS: Final = 16
"""Models whose configs and tokenizers are kept: some take tens of megabytes."""

KEPT_RUNGS: Final = 1000
"""Kinds of groups of which is remembered how far down the ladder they had to go."""


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
        first = self._run(first_spec(spec), clock, watch, self._sources)
        if first.sources is not None and batches:
            first.sources.prefetch(batches[0].slots)
        if spec.upscaler is None:
            yield from self._stage(first, batches, rung)
        else:
            yield from self._two_stages(first, spec.upscaler, batches, rung)
        self._last = spec.model

    def _stage(
        self, run: _Run, batches: Sequence[Batch], rung: ModeNeed
    ) -> Iterator[tuple[Facts, list[Picture]]]:
        dtype = self._dtypes[0] if run.spec.dtype == "auto" else run.spec.dtype
        if run.model.card.is_plain:
            yield from run.plainly(batches, dtype)
        else:
            yield from run.through(Task(batches=batches), dtype, self._first_rung(run.spec, rung))

    def _two_stages(
        self, first: _Run, upscaler: Upscaler, batches: Sequence[Batch], rung: ModeNeed
    ) -> Iterator[tuple[Facts, list[Picture]]]:
        """All pictures, and then each of them made larger: models change places but once."""
        made: dict[int, tuple[Facts, Picture]] = {}
        for facts, pictures in self._stage(first, batches, rung):
            made |= {one.item: (facts, one) for one in pictures if one.pixels is not None}
            if faulty := [one for one in pictures if one.fault]:
                yield facts, faulty
        spec = second_spec(first.spec, upscaler, self._scheduler_of(upscaler))
        single, images = second_batches(batches, [picture for _, picture in made.values()])
        second = self._run(spec, first.clock, first.watch, images)
        need = ModeNeed(mode=rung.mode, memory_bytes=rung.memory_bytes)
        for facts, pictures in self._stage(second, single, need):
            for large in pictures:
                before, small = made[large.item]
                yield merged_facts(before, facts), [merged_picture(small, large)]

    def _scheduler_of(self, upscaler: Upscaler) -> str:
        return self._model(upscaler.model, upscaler.revision).card.scheduler

    def _run(
        self, spec: GroupSpec, clock: Clock, watch: Watch, sources: PictureSource | None
    ) -> _Run:
        with clock.timing(LOAD), telling(lambda: watch.tell(LOAD, 0, 0)):
            model = self._model(spec.model, spec.revision)
        hashed = self._hashing.submit(hashes_of, model, spec)
        return _Run(
            renderer=self,
            spec=spec,
            model=model,
            clock=clock,
            watch=watch,
            hashed=hashed,
            sources=sources,
        )

    def course(
        self, run: _Run, task: Task, dtype: str, rung: Rung, *, safe: bool = False
    ) -> Course:
        """A task's course in one dtype; from a `safe` repetition nothing is learned.

        It takes more memory than pictures of the kind take otherwise, so neither is it known to
        the profile where that ran out.
        """
        watch = replace(run.watch, ran_out=lambda _: None) if safe else run.watch
        benches = Benches(
            device=self.device,
            pool=self.pool,
            model=run.model,
            adapter=adapter_of(run.model.card.family),
            spec=run.spec,
            dtype=dtype,
            mode=rung.mode,
            loading=lambda: watch.tell("load", 0, 0),
        )
        phases = Phases(
            benches=benches,
            spec=run.spec,
            sources=run.sources,
            watch=watch,
            clock=run.clock,
        )
        return Course(
            task=task,
            phases=phases,
            rung=rung,
            pool=self.pool,
            watch=watch,
            learned=(lambda _: None) if safe else lambda rung: self._learn(run.spec, rung),
        )

    def facts(self, run: _Run, dtype: str, rung: Rung, images: int) -> Facts:
        """What is to be said of pictures that came from `rung`."""
        if run.hashed.done():
            hashes = run.hashed.result()
        else:
            with telling(lambda: run.watch.tell(LOAD, 0, 0)):
                hashes = run.hashed.result()
        return Facts(
            dtype=dtype,
            device=self._kind,
            weights=hashes.weights,
            loras=hashes.loras,
            versions=self._versions,
            mode=rung.mode,
            batch=rung.shape,
            steps_down=rung.steps,
            attention=_attention(),
            compiled=compiles(self.device, run.spec, rung.mode),
            lossy=lossy_of(run.spec),
            licence=run.model.card.licence,
            peak_bytes=self.device.peak_bytes(),
            image_seconds=run.clock.rendering / images if images else 0.0,
            phase_seconds=dict(run.clock.seconds),
        )

    def _model(self, name: str, revision: str | None) -> Model:
        key = (name, revision)
        known = self._models.pop(key, None)
        if known is None or known.is_outdated:
            known = find_model(name, revision)
        self._models[key] = known  # the one used last is the last to go
        while len(self._models) > KEPT_MODELS:
            del self._models[next(iter(self._models))]
        return known

    def _first_rung(self, spec: GroupSpec, need: ModeNeed) -> Rung:
        learned = self._learned.get(spec.profile_key)
        if learned is not None:
            return learned
        if not self.device.has_own_memory and not need.mode.on_cpu:
            need = msgspec.structs.replace(need, mode=Mode.CPU)
        if spec.cache is not None:  # it is the whole batch that decides which steps are skipped
            need = msgspec.structs.replace(need, batch=1)
        return first_rung(need, spec.batch)

    def _learn(self, spec: GroupSpec, rung: Rung) -> None:
        """The next task of this kind begins where this one got to."""
        self._learned.pop(spec.profile_key, None)
        self._learned[spec.profile_key] = rung
        while len(self._learned) > KEPT_RUNGS:
            del self._learned[next(iter(self._learned))]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """One call of `render`."""

    renderer: DiffusionRenderer
    spec: GroupSpec
    model: Model
    clock: Clock
    watch: Watch
    hashed: Future[Hashes]
    sources: PictureSource | None

    def plainly(
        self, batches: Sequence[Batch], dtype: str
    ) -> Iterator[tuple[Facts, list[Picture]]]:
        """The pictures of a model no record covers."""
        course = PlainCourse(
            device=self.renderer.device,
            pool=self.renderer.pool,
            model=self.model,
            spec=self.spec,
            dtype=dtype,
            watch=self.watch,
            clock=self.clock,
        )
        rung = Rung(mode=course.mode, shape=self.spec.batch, whole=self.spec.batch)
        images = 0
        for pictures in course.pictures(batches):
            images += len(pictures)
            facts = self.renderer.facts(self, dtype, rung, images)
            yield replace(facts, plain=True), pictures

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
