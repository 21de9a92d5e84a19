"""The claim loop: claim, carry out, again; until told to stop or the job has ended."""

from __future__ import annotations

from typing import Final

import structlog

from storage.contract.states import JobState
from storage.db import jobs
from storage.db.engine import Ledger
from workers.claiming import Claimer
from workers.execute import Tools, execute
from workers.stopping import Stop

IDLE_SECONDS: Final = 0.25
"""Between two looks when nothing can be claimed: there is no broker to wake this worker."""

log = structlog.get_logger()


def work(tools: Tools, claimer: Claimer, stop: Stop, *, job_id: int | None) -> None:
    """Work until `stop`, or, with `job_id`, until that job needs no more work."""
    while not stop.requested:
        task = claimer.claim(tools.renderer.loaded_model)
        if task is None:
            if job_id is not None and not _is_open(tools.ledger, job_id):
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


def _is_open(ledger: Ledger, job_id: int) -> bool:
    with ledger.read() as connection:
        return jobs.get(connection, job_id).state == JobState.OPEN
