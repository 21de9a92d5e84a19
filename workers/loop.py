"""The claim loop: claim, carry out, again; until told to stop or there is reason to leave."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog

from storage.contract.claims import ClaimedTask
from storage.contract.errors import LeaseLost, LedgerError
from storage.db import tasks
from workers.claiming import Claimer
from workers.execute import Tools, execute
from workers.idle import Embedding
from workers.stopping import Stop

IDLE_SECONDS: Final = 0.25
"""Between two looks when nothing can be claimed: there is no broker to wake this worker."""

log = structlog.get_logger()


def work(
    tools: Tools,
    claimer: Claimer,
    stop: Stop,
    *,
    leave: Callable[[], bool],
    until: float = math.inf,
    idle: Embedding | None = None,
) -> None:
    """Work until `stop`, or until `leave` says so when nothing can be claimed.

    Nothing more is claimed after `until` (of `time.monotonic`). When there is nothing to claim,
    vectors are computed by `idle`, a batch between two looks.
    """
    while not stop.requested and time.monotonic() < until:
        claimed = () if tools.heartbeat.resting else claimer.claim(tools.renderer.loaded_model)
        if not claimed:
            if idle is not None and not tools.heartbeat.resting and idle.step():
                continue
            if leave():
                return
            stop.wait(IDLE_SECONDS)
            continue
        log.info(
            "task claimed",
            action="task_claimed",
            task=claimed[0].task_id,
            job=claimed[0].job_name,
            first_item=claimed[0].first_item,
            tasks=len(claimed),
            items=sum(task.items for task in claimed),
            mode=claimed[0].mode,
        )
        carry_out(claimed, tools, claimer)
        claimer.forget_speeds()


def carry_out(claimed: Sequence[ClaimedTask], tools: Tools, claimer: Claimer) -> None:
    """Carry out what one claim gave, one task after the other; the first counts as started.

    What is left when the worker must stop goes back. So it does when a task raises what makes
    the process unfit to go on.
    """
    waiting = list(claimed)
    try:
        while waiting:
            task = waiting.pop(0)
            tools.heartbeat.take(task, waiting=waiting)
            if task is not claimed[0] and not _start(task, tools):
                continue
            seconds = execute(task, tools)
            if seconds is not None:
                claimer.note_speed(task, seconds)
            else:
                claimer.forget()
            if tools.heartbeat.stop_after_batch:
                break
    finally:
        tools.heartbeat.release()
        if waiting:
            _hand_back_all(tools)


def _start(task: ClaimedTask, tools: Tools) -> bool:
    """Note that a task begins; False if its lease was lost while it waited."""
    now = tools.ledger.now()
    ref = tasks.TaskRef(task.task_id, task.lease)
    try:
        with tools.ledger.write() as connection:
            tasks.start(connection, ref, expires_at=now + task.lease_seconds, now=now)
    except LeaseLost:
        return False
    return True


def _hand_back_all(tools: Tools) -> None:
    """Hand back what waits; where the ledger cannot be reached, its leases lapse."""
    with suppress(LedgerError), tools.ledger.write() as connection:
        tasks.end_all(connection, tools.worker_id, now=tools.ledger.now())
