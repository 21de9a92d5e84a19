"""Carrying out one claimed task: fetch, render, store, record, and end it properly.

`execute` reads as the sequence. What goes wrong is sorted by whose fault it is: the item's or
the model's (the attempt fails), nobody's (handed back), or the surroundings' (handed back, and
raised, so that the process ends).
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from storage.contract.capability import Mode, ModeNeed
from storage.contract.claims import ClaimedTask, Progress
from storage.contract.errors import (
    DeviceLost,
    Interrupted,
    LeaseLost,
    LedgerError,
    ModelUnusable,
    ObjectError,
    OutOfMemory,
    OutputUnusable,
)
from storage.contract.items import Item
from storage.contract.outcomes import Failure, Reason, exhausted, summary
from storage.db import profiles, tasks
from storage.db.engine import Ledger
from storage.db.images import ImageRow
from storage.db.tasks import TaskRef
from storage.ports import ObjectStore
from workers.engine.batching import Batch, plan
from workers.engine.families.base import Phase
from workers.engine.ports import Facts, Picture, Renderer, Watch
from workers.engine.safety import Inspector
from workers.heartbeat import Heartbeat
from workers.items import ItemReader
from workers.output.finish import Destination, failed_row
from workers.output.signing import FileSigner
from workers.output.writer import Writer

MORE_HOST_MEMORY: Final = 1.25
"""By how much the next claim's need of host memory grows after it ran out."""

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True, slots=True)
class Tools:
    """What a worker works with."""

    ledger: Ledger
    store: ObjectStore
    reader: ItemReader
    renderer: Renderer
    heartbeat: Heartbeat
    worker_id: int
    device_kind: str
    inspector: Inspector | None = None  #: None: no job with a safety checker can be rendered
    signer: FileSigner | None = None


@dataclass(kw_only=True, slots=True)
class _Run:
    """One task under way."""

    tools: Tools
    task: ClaimedTask
    clock: Callable[[], float]
    images: int = 0
    bytes: int = 0
    seconds: float = 0.0  #: rendering, loading left out
    load_seconds: float = 0.0
    facts: Facts | None = None  #: what the renderer said last
    ran_out: bool = False  #: a rung ran out of memory, and the profile knows

    @property
    def ref(self) -> TaskRef:
        return TaskRef(self.task.task_id, self.task.lease)


def execute(
    task: ClaimedTask, tools: Tools, *, clock: Callable[[], float] = time.monotonic
) -> float | None:
    """Carry out `task`; afterwards it has ended, one way or another.

    Returns the seconds an image took, loading left out, if the task was rendered to its end.

    Raises what makes the process unfit to go on: `ObjectError`, `LedgerError`, `DeviceLost`.
    """
    run = _Run(tools=tools, task=task, clock=clock)
    said = log.bind(task=task.task_id, job=task.job_name, items=task.items)
    try:
        items = tools.reader.items_of(task)
        tools.reader.look_ahead(task)
        if exhausted(task.failures, task.items, able=task.able):
            _give_up(run, items)
        else:
            _render(run, items)
            _measure(run)
        said.info("task ended", action="task_ended", images=run.images, seconds=run.seconds)
        return run.seconds / run.images if run.images and run.seconds > 0 else None
    except LeaseLost:
        said.warning("the lease was lost; others have the items now", action="lease_lost")
    except Interrupted as stopped:
        _hand_back(run)
        said.info("task handed back", action="task_returned", why=stopped.message)
    except DeviceLost as error:
        with suppress(LedgerError):
            _fail(run, Reason.DEVICE, error.message)
        raise
    except (ObjectError, LedgerError):
        with suppress(LedgerError):
            _hand_back(run)
        raise
    except ModelUnusable as error:
        _fail(run, Reason.MODEL, f"{error.message}{f' ({error.hint})' if error.hint else ''}")
    except OutputUnusable as error:
        _fail(run, Reason.OUTPUT, f"{error.message}{f' ({error.hint})' if error.hint else ''}")
    except OutOfMemory as error:
        _too_large(run, error)
    except Exception as error:
        said.exception("the attempt failed", action="task_failed")
        _fail(run, Reason.ERROR, f"{type(error).__name__}: {error}")
    return None


def _render(run: _Run, items: Sequence[Item]) -> None:
    """Render, store and record all items, or as many as there is time for."""
    task = run.task
    batches = plan(
        items,
        first_item=task.first_item,
        group_first_item=task.group_first_item,
        batch_size=task.spec.batch.denoise,
    )
    destination = _destination(run)
    writer = Writer(destination, lambda rows: _commit(run, rows))
    try:
        ended = _render_batches(run, items, batches, writer)
        writer.close()
    except Interrupted:
        writer.close()  # what is finished is kept
        raise
    except BaseException:
        writer.abandon()
        raise
    if ended < len(items):
        raise Interrupted(f"stopped after {ended} of {len(items)} images")


def _destination(run: _Run) -> Destination:
    tools = run.tools
    return Destination(
        store=tools.store,
        task=run.task,
        worker_id=tools.worker_id,
        now=tools.ledger.now,
        confirm=lambda: _confirm(run),
        inspector=tools.inspector,
        signer=tools.signer,
    )


def _confirm(run: _Run) -> None:
    """Make sure that the lease holds. A finished picture is progress, so this renews it."""
    ledger = run.tools.ledger
    expires_at = ledger.now() + run.task.lease_seconds
    with ledger.write() as connection:
        tasks.renew(connection, run.ref, expires_at=expires_at)


def _render_batches(
    run: _Run, items: Sequence[Item], batches: Sequence[Batch], writer: Writer
) -> int:
    """Pass pictures from the renderer to the writer; how many items came to something."""
    task, tools = run.task, run.tools
    watch = _Watching(run, len(batches))
    rendered = tools.renderer.render(
        task.spec,
        ModeNeed(
            mode=task.mode, memory_bytes=task.memory_bytes, batch=task.batch, tiled=task.tiled
        ),
        batches,
        Watch(
            tell=watch.tell,
            stop_after_batch=lambda: tools.heartbeat.stop_after_batch,
            ran_out=lambda rung: _note_full(run, rung),
        ),
    )
    done = 0
    for facts, pictures in rendered:
        done += len(pictures)
        seconds = watch.lap() / len(pictures)
        run.facts = facts
        if facts.phase_seconds:
            run.load_seconds = facts.phase_seconds.get("load", 0.0)
            run.seconds = sum(facts.phase_seconds.values()) - run.load_seconds
            seconds = facts.image_seconds
        else:
            run.seconds += seconds * len(pictures)
        chosen = [items[picture.item - task.first_item] for picture in pictures]
        writer.put(chosen, pictures, facts, seconds)
        watch.restart()
    return done


class _Watching:
    """Reports progress, and times batches with loading left out."""

    def __init__(self, run: _Run, batches: int) -> None:
        self._run = run
        self._batches = batches
        self._loading = False
        self._started = run.clock()

    def tell(self, phase: str, batch: int, step: int) -> None:
        loads = phase == "load"
        if loads != self._loading:
            if self._loading:
                self._run.load_seconds += self.lap()
            self.restart()
        self._loading = loads
        task = self._run.task
        progress = Progress(
            phase=phase,
            job=task.job_name,
            task_id=task.task_id,
            batch=batch,
            batches=self._batches,
            step=step,
            steps=task.spec.num_inference_steps,
        )
        self._run.tools.heartbeat.tell(progress)

    def lap(self) -> float:
        return self._run.clock() - self._started

    def restart(self) -> None:
        self._started = self._run.clock()


def _commit(run: _Run, rows: Sequence[ImageRow]) -> None:
    ledger = run.tools.ledger
    now = ledger.now()
    expires_at = now + run.task.lease_seconds
    with ledger.write() as connection:
        tasks.commit(connection, run.ref, rows, expires_at=expires_at, now=now)
    run.images += len(rows)
    run.bytes += sum(row.bytes or 0 for row in rows)


def _give_up(run: _Run, items: Sequence[Item]) -> None:
    """Record the items as failed, with all attempts in the detail."""
    task = run.task
    destination = _destination(run)
    reason, detail = task.failures[-1].reason, summary(task.failures)
    rows = [
        failed_row(destination, item, Picture(item=number, fault=reason, detail=detail))
        for number, item in enumerate(items, task.first_item)
    ]
    _commit(run, rows)


def _measure(run: _Run) -> None:
    """Add what was measured to the profile."""
    if not run.images or run.seconds <= 0:
        return
    sample = _sample(run)
    samples = [sample]
    if run.load_seconds > 0:
        samples.append(profiles.load_sample(sample, run.task.spec.model, run.load_seconds))
    with run.tools.ledger.write() as connection:
        for one in samples:
            profiles.add(connection, one, now=run.tools.ledger.now())


def _sample(run: _Run) -> profiles.Sample:
    task, facts = run.task, run.facts
    whole = profiles.Sample(
        profile_key=task.spec.profile_key,
        mode=task.mode,
        device_kind=run.tools.device_kind,
        images=run.images,
        seconds=run.seconds,
        bytes=run.bytes,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )
    if facts is None or facts.batch is None:
        return whole
    denoised = facts.batch.denoise
    phases = {f"{name}_seconds": facts.phase_seconds.get(name, 0.0) for name in Phase}
    return msgspec.structs.replace(
        whole,
        mode=facts.mode or task.mode,
        batch=denoised if denoised < task.spec.batch.denoise else 0,
        tiled="tiled" in facts.steps_down,
        peak_bytes=facts.peak_bytes,
        **phases,
    )


def _note_full(run: _Run, rung: ModeNeed) -> None:
    """The claims of all workers of this kind know from now on what did not fit."""
    ledger, room = run.tools.ledger, rung.memory_bytes
    if rung.mode.on_cpu:
        # Host memory comes and goes, and claims go by what there was when the worker began. So
        # that the same claim is not made over and over, more is asked for each time.
        room = max(room, int(run.task.memory_bytes * MORE_HOST_MEMORY))
    with ledger.write() as connection:
        profiles.did_not_fit(
            connection,
            profile_key=run.task.spec.profile_key,
            mode=Mode(rung.mode),
            device_kind=run.tools.device_kind,
            room_bytes=room,
            batch=rung.batch,
            tiled=rung.tiled,
            now=ledger.now(),
        )
    run.ran_out = True


def _too_large(run: _Run, error: OutOfMemory) -> None:
    """Hand back what no rung was small enough for: claims know by now that it needs more.

    Where nothing was learned the next claim would do the same again, so the attempt counts.
    """
    if not run.ran_out:
        _fail(run, Reason.OUT_OF_MEMORY, error.message)
        return
    log.warning(
        "the task needs a larger device; handed back",
        action="task_too_large",
        task=run.task.task_id,
        why=error.message,
    )
    _hand_back(run)


def _hand_back(run: _Run) -> None:
    ledger = run.tools.ledger
    with suppress(LeaseLost), ledger.write() as connection:
        tasks.hand_back(connection, run.ref, now=ledger.now())


def _fail(run: _Run, reason: Reason, detail: str) -> None:
    ledger = run.tools.ledger
    failure = Failure(reason=reason, detail=detail, worker_id=run.tools.worker_id, at=ledger.now())
    with suppress(LeaseLost), ledger.write() as connection:
        tasks.fail(connection, run.ref, failure)
