"""The claim loop: claim, carry out, again; until told to stop or there is reason to leave."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

import structlog

from workers.claiming import Claimer
from workers.execute import Tools, execute
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
) -> None:
    """Work until `stop`, or until `leave` says so when nothing can be claimed.

    Nothing more is claimed after `until` (of `time.monotonic`).
    """
    while not stop.requested and time.monotonic() < until:
        task = claimer.claim(tools.renderer.loaded_model)
        if task is None:
            if leave():
                return
            stop.wait(IDLE_SECONDS)
            continue
        log.info(
            "task claimed",
            action="task_claimed",
            task=task.task_id,
            job=task.job_name,
            first_item=task.first_item,
            items=task.items,
            mode=task.mode,
        )
        tools.heartbeat.take(task)
        try:
            execute(task, tools)
        finally:
            tools.heartbeat.release()
        claimer.forget_speeds()
