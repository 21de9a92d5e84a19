"""Claiming: the policy decides, one transaction cuts the task."""

from __future__ import annotations

import secrets
import time

import sqlalchemy as sa

from scheduler import policy
from storage.contract.capability import Capability
from storage.contract.claims import Claim, ClaimedTask, Declined, OpenGroup, WorkerView
from storage.contract.states import WorkerState
from storage.db import groups, profiles, tables, tasks
from storage.db.engine import Ledger

GROUPS_READ = 1000


class Claimer:
    """Claims tasks for one worker, of one job if `job_id` is given."""

    def __init__(
        self, ledger: Ledger, worker_id: int, capability: Capability, *, job_id: int | None
    ) -> None:
        self._ledger = ledger
        self._worker_id = worker_id
        self._capability = capability
        self._job_id = job_id
        self._speeds: dict[str, float] = {}
        self._speeds_read_at = -1e9
        self.declined: tuple[str, ...] = ()

    def claim(self, loaded_model: str | None) -> ClaimedTask | None:
        """A task, or None: then `declined` says why, if there was something to decline."""
        with self._ledger.read() as connection:
            open_groups = groups.open_groups(connection, limit=1, job_id=self._job_id)
        if not open_groups:  # the usual empty answer must not take the write lock
            self.declined = ()
            return None
        now = self._ledger.now()
        self._refresh_speeds()
        with self._ledger.write() as connection:
            candidates = groups.open_groups(connection, limit=GROUPS_READ, job_id=self._job_id)
            view = self._view(loaded_model, _live_workers(connection))
            while True:
                decision = policy.choose(candidates, view, now)
                if isinstance(decision, Declined):
                    self.declined = decision.reasons
                    return None
                chosen = next(g for g in candidates if g.group_id == decision.group_id)
                task = self._cut(connection, decision, chosen, view, now)
                if task is not None:
                    self.declined = ()
                    return task
                # All that is left of it failed a moment ago, and rests.
                candidates.remove(chosen)

    def forget_speeds(self) -> None:
        """Read the profiles anew before the next claim."""
        self._speeds_read_at = -1e9

    def _cut(
        self,
        connection: sa.Connection,
        claim: Claim,
        chosen: OpenGroup,
        view: WorkerView,
        now: float,
    ) -> ClaimedTask | None:
        seconds, _ = policy.expected_seconds(chosen, view)
        return tasks.cut(
            connection,
            claim,
            worker_id=self._worker_id,
            lease=secrets.randbits(62),
            lease_seconds=policy.lease_seconds(seconds * chosen.batch_size),
            now=now,
        )

    def _view(self, loaded_model: str | None, live_workers: int) -> WorkerView:
        return WorkerView(
            capability=self._capability,
            loaded_model=loaded_model,
            seconds_per_image=self._speeds,
            fleet_share=1 / max(1, live_workers),
        )

    def _refresh_speeds(self) -> None:
        if time.monotonic() - self._speeds_read_at < 60:
            return
        with self._ledger.read() as connection:
            found = profiles.of_device(connection, self._capability.kind)
        self._speeds = {key: profile.seconds_per_image for key, profile in found.items()}
        self._speeds_read_at = time.monotonic()


def _live_workers(connection: sa.Connection) -> int:
    statement = sa.select(sa.func.count()).where(tables.workers.c.state == WorkerState.LIVE)
    return connection.execute(statement).scalar_one()
