"""The live display of a run: one bar for the job, one line per worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from scheduler.cli.console import duration, err
from scheduler.service.watching import Snapshot

LOOK_SECONDS: Final = 0.25
"""Drawing costs the renderers' time on a small machine; four times a second looks smooth."""

LINE_SECONDS: Final = 10.0
"""Between two lines where the output is no terminal."""


class Watched(Protocol):
    """Something that goes on until its snapshots say it does not."""

    def look(self) -> Snapshot:
        """How it stands now."""


def show(run: Watched, *, quiet: bool, interrupted: Callable[[], bool]) -> tuple[Snapshot, float]:
    """Watch until it ends; its last state and how many seconds it took."""
    started = time.monotonic()
    if err.is_terminal and not quiet:
        with Live(console=err, auto_refresh=False, transient=True) as live:
            last = _watch(run, lambda s: live.update(_drawn(s, interrupted()), refresh=True))
    else:
        last = _watch(run, _Lines(quiet=quiet))
    return last, time.monotonic() - started


def _watch(run: Watched, draw: Callable[[Snapshot], None]) -> Snapshot:
    while True:
        snapshot = run.look()
        draw(snapshot)
        if not snapshot.running:
            return run.look()
        time.sleep(LOOK_SECONDS)


class _Lines:
    """Progress as lines, for logs."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._next = time.monotonic() + LINE_SECONDS

    def __call__(self, snapshot: Snapshot) -> None:
        if self._quiet or time.monotonic() < self._next:
            return
        self._next += LINE_SECONDS
        err.print(_headline(snapshot))


def _headline(snapshot: Snapshot) -> str:
    job = snapshot.job
    parts = [f"{job.done + job.failed:,}/{job.item_count:,}"]
    if snapshot.images_per_second:
        parts.append(f"{snapshot.images_per_second:.2f} images/s")
    if snapshot.seconds_left is not None:
        parts.append(f"{duration(snapshot.seconds_left)} left")
    if job.failed:
        parts.append(f"{job.failed:,} failed")
    if snapshot.waiting:
        parts.append(f"waiting: {snapshot.waiting}")
    return "  ".join(parts)


def _drawn(snapshot: Snapshot, interrupted: bool) -> Group:
    job = snapshot.job
    head = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=max(1, job.item_count), completed=job.done + job.failed, width=32)
    head.add_row(Text(job.name, style="bold"), bar, Text(_headline(snapshot)))
    lines: list[Table | Text] = [head]
    if snapshot.workers:
        lines.append(_worker_lines(snapshot))
    elif not snapshot.waiting:
        lines.append(Text("  starting workers", style="dim"))
    if interrupted:
        said = "  Stopping after this batch; nothing is lost. Ctrl-C again stops at once."
        lines.append(Text(said, style="yellow"))
    return Group(*lines)


def _worker_lines(snapshot: Snapshot) -> Table:
    rows = Table.grid(padding=(0, 2))
    for worker in snapshot.workers:
        progress = worker.progress
        batch = f"batch {progress.batch}/{progress.batches}" if progress.batch else ""
        step = f"step {progress.step}/{progress.steps}" if progress.step else ""
        name = worker.name.partition("/")[2] or worker.name
        rows.add_row(
            Text(f"  {name}", style="cyan"),
            Text(progress.phase),
            Text(batch),
            Text(step, style="dim"),
        )
    return rows
