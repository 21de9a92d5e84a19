"""One task through its phases, in one dtype: as the mode orders them, down the ladder if need be.

Where denoiser and decoder lie on the device together, pictures come batch by batch. Where only
one component does, each phase runs over all batches, and all pictures come at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from storage.contract.capability import Mode, ModeNeed
from storage.contract.errors import OutOfMemory, RendermillError
from workers.engine.batching import Batch
from workers.engine.components import first_line
from workers.engine.faults import device_lost, is_out_of_memory
from workers.engine.ladder import Rung, next_rung
from workers.engine.phases import Phases
from workers.engine.pool import Pool
from workers.engine.ports import Picture, Watch
from workers.engine.task import Task

log = structlog.get_logger()

_STAGED: Final = (Mode.PHASED, Mode.OFFLOAD, Mode.CPU_PHASED)


@dataclass(kw_only=True)
class Course:
    """A task on its way; `rung` is where it stands on the ladder now."""

    task: Task
    phases: Phases
    rung: Rung
    pool: Pool
    watch: Watch
    learned: Callable[[Rung], None]  #: told of every step down
    decodes_only: bool = False  #: the latents are there

    def pictures(self) -> Iterator[list[Picture]]:
        """Pictures as they are done; those to be rendered again are left in the task."""
        while True:
            full = None
            try:
                yield from self._attempt()
            except RendermillError:
                raise
            except (RuntimeError, MemoryError) as error:
                if lost := device_lost(error):
                    raise lost from error
                if not is_out_of_memory(error):
                    raise
                full = first_line(error)
            # Outside the block: the exception held on to the tensors of the frames it came from.
            if full is None:
                return
            self._recover(full)

    def _attempt(self) -> Iterator[list[Picture]]:
        if self.decodes_only:
            yield from self._decoded(list(self.task.open_batches(self.rung.shape.denoise)))
            return
        self.phases.encode(self.task, self.rung)
        if self.rung.mode in _STAGED:
            yield from self._staged()
        else:
            yield from self._streamed()

    def _streamed(self) -> Iterator[list[Picture]]:
        """One batch after the other, from pictures to pictures."""
        task, phases, rung = self.task, self.phases, self.rung
        batches = list(task.open_batches(rung.shape.denoise))
        for number, batch in enumerate(batches, 1):
            phases.look_ahead(batches[number : number + 1])
            phases.condition(task, rung, batch, number)
            latents = phases.denoise(task, batch, number, keep=False)
            if latents is not None:
                phases.decode(task, rung, batch, latents, number)
            del latents
            if fresh := task.take():
                yield fresh
                if self.watch.stop_after_batch():
                    return

    def _staged(self) -> Iterator[list[Picture]]:
        """Each phase over all batches. Told to stop, what is denoised is still decoded."""
        task, phases, rung = self.task, self.phases, self.rung
        batches = list(task.open_batches(rung.shape.denoise))
        for number, batch in enumerate(batches, 1):
            phases.look_ahead(batches[number : number + 1])
            phases.condition(task, rung, batch, number)
        for number, batch in enumerate(batches, 1):
            if not all(n in task.latents or n in task.settled for _, n in batch.wanted):
                phases.denoise(task, batch, number, keep=True)
            if self.watch.stop_after_batch():
                break
        yield from self._decoded(batches)

    def _decoded(self, batches: Sequence[Batch]) -> Iterator[list[Picture]]:
        for number, batch in enumerate(batches, 1):
            self.phases.decode(self.task, self.rung, batch, None, number)
            if fresh := self.task.take():
                yield fresh

    def _recover(self, full: str) -> None:
        """Free what there is, and step down; `OutOfMemory` if there is nothing below."""
        benches, device = self.phases.benches, self.phases.benches.device
        before, at = self.rung, self.phases.at
        benches.close()
        others = self.pool.clear_others()
        self.pool.rebuild()
        device.empty()
        if others:  # it may have been for another task's model that there was no room
            log.info("took other models off the device", action="device_cleared", error=full)
            return
        room = device.room_bytes()
        rung = next_rung(before, at)
        for need in _full(before, rung, self.phases.spec.batch.denoise, room):
            self.watch.ran_out(need)
        log.warning(
            "out of memory; taking a step down",
            action="step_down",
            phase=at or "load",
            mode=before.mode,
            step=rung.steps[-1] if rung else "none is left",
            room_bytes=room,
            error=full,
        )
        if rung is None:
            raise OutOfMemory(
                f"{full}; no lesser mode is left below {before.mode}"
                f" (of {room} bytes; steps taken: {', '.join(before.steps) or 'none'})",
                hint="a device with more memory can do it",
            )
        self.rung = rung
        benches.step_down(rung.mode)
        self.learned(rung)


def _full(before: Rung, after: Rung | None, whole: int, room: int) -> list[ModeNeed]:
    """What is known not to fit: the rung that was left, or all of them where none is below it.

    Else a claim could offer another one, which the ladder would not take, over and over.
    """
    if after is not None:
        return [_need(before, whole, room)]
    alike = [mode for mode in Mode if mode.on_cpu is before.mode.on_cpu]
    return [ModeNeed(mode=mode, memory_bytes=room, batch=1, tiled=True) for mode in alike]


def _need(rung: Rung, whole: int, room: int) -> ModeNeed:
    batch = rung.shape.denoise if rung.shape.denoise < whole else 0
    return ModeNeed(mode=rung.mode, memory_bytes=room, batch=batch, tiled=rung.tiled)
