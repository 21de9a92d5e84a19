"""Claiming: the policy decides on what was read, one short transaction cuts the tasks.

The decision is made outside any lock, so what it was made on may have changed by then: the
transaction looks at the chosen group again, and if nothing is left of it the next choice is
tried. A group that somebody else is claiming from at that moment is passed over while another
of the same model will do, and waited for otherwise.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from scheduler import policy
from storage.contract.capability import Capability
from storage.contract.claims import (
    Claim,
    ClaimedTask,
    Declined,
    FleetPart,
    OpenGroup,
    WorkerView,
)
from storage.db import cutting, fleet, offers, profiles, tables, workers
from storage.db.ledger import Ledger

FEWEST_READ: Final = 256
MOST_READ: Final = 1024
"""Groups read for one decision. Reading and weighing them is most of what a claim costs, so a
worker reads more only after a claim that took many of them."""

FLEET_SECONDS: Final = 5.0
"""What the fleet is and how fast is read again after so long."""

PASSED_OVER: Final = 8
"""Groups held by others that are passed over before one is waited for."""


class Claimer:
    """Claims tasks for one worker, of one job if `job_id` is given."""

    def __init__(
        self,
        ledger: Ledger,
        worker_id: int,
        capability: Capability,
        *,
        job_id: int | None,
        room: Callable[[], int | None] = lambda: None,
    ) -> None:
        """`room` tells how many bytes of its device the worker could have now, if that is known.

        That is what it holds itself plus what is free: others may use the device too.
        """
        self._ledger = ledger
        self._worker_id = worker_id
        self._capability = capability
        self._job_id = job_id
        self._name: str | None = None
        self._limit = FEWEST_READ
        self._fleet: tuple[FleetPart, ...] = ()
        self._speeds: dict[str, float] = {}
        self._loads: dict[str, float] = {}
        self._seen: profiles.SeenByKey = {}
        self._fleet_read_at = -1e9
        self._noted_model: str | None = None
        self._own_speeds: dict[str, float] = {}
        self._room = room
        self.declined: tuple[str, ...] = ()

    def claim(self, loaded_model: str | None) -> tuple[ClaimedTask, ...]:
        """One task, or several small ones to carry out one after the other; or none.

        If none, then `declined` says why, if there was something to decline.
        """
        self.declined = ()
        now = self._ledger.now()
        with self._ledger.read() as connection:
            offer = offers.offer(
                connection,
                limit=self._limit,
                job_id=self._job_id,
                worker_name=self._own_name(connection),
                now=now,
            )
            if not offer.groups:
                return ()
            self._refresh(connection)
        view = self._view(loaded_model, more_groups=offer.more)
        taken = self._take_one_of(list(offer.groups), view, now)
        if offer.more and len(taken) > self._limit // 2:
            self._limit = min(MOST_READ, 2 * self._limit)
        return taken

    def forget(self) -> None:
        """Read the profiles anew before the next claim: a task went wrong, and they may say how."""
        self._fleet_read_at = -1e9

    def forget_speeds(self) -> None:
        """Read the profiles anew before the next claim, if they are not quite fresh."""
        self._fleet_read_at = min(
            self._fleet_read_at, time.monotonic() - FLEET_SECONDS + FLEET_SECONDS / 5
        )

    def note_speed(self, task: ClaimedTask, seconds_per_image: float) -> None:
        """Learn how fast this worker is itself, whatever others of its kind are."""
        key = task.spec.profile_key
        self._own_speeds[key] = policy.smoothed(self._own_speeds.get(key), seconds_per_image)

    def _take_one_of(
        self, candidates: list[OpenGroup], view: WorkerView, now: float
    ) -> tuple[ClaimedTask, ...]:
        """Follow the policy's choices until one of them can be had."""
        passed: list[tuple[Claim, OpenGroup]] = []
        while True:
            decision = policy.choose(candidates, view, now)
            chosen = _group_of(decision, candidates)
            if passed and (chosen is None or not _alike(chosen, passed)):
                for claim, group in passed:
                    if taken := self._cut(claim, group, view, now, wait=True):
                        return taken
                passed.clear()  # nothing of them was due
            if chosen is None or isinstance(decision, Declined):
                self.declined = decision.reasons if isinstance(decision, Declined) else ()
                return ()
            if taken := self._cut(decision, chosen, view, now, wait=False):
                return taken
            passed.append((decision, chosen))
            candidates.remove(chosen)

    def _cut(
        self, claim: Claim, chosen: OpenGroup, view: WorkerView, now: float, *, wait: bool
    ) -> tuple[ClaimedTask, ...]:
        seconds, _ = policy.expected_seconds(chosen, view)
        lease = cutting.Lease(
            worker_id=self._worker_id,
            token=secrets.randbits(62),
            seconds=policy.lease_seconds(seconds * chosen.batch_size),
        )
        able = _able(chosen, view.fleet)
        with self._ledger.write() as connection:
            task = cutting.cut(connection, claim, lease, now=now, able=able, wait=wait)
            if task is None:
                return ()
            more = cutting.cut_whole(connection, claim.also, lease, claim, now=now, able=able)
            if chosen.model != self._noted_model:
                workers.note_model(connection, self._worker_id, chosen.model)
        self._noted_model = chosen.model
        return (task, *more)

    def _view(self, loaded_model: str | None, *, more_groups: bool) -> WorkerView:
        return WorkerView(
            capability=self._capability,
            room_bytes=self._room(),
            loaded_model=loaded_model,
            seconds_per_image=self._speeds,
            seen=self._seen,
            own_seconds_per_image=self._own_speeds,
            load_seconds=self._loads,
            fleet=self._fleet,
            more_groups=more_groups,
        )

    def _refresh(self, connection: sa.Connection) -> None:
        if time.monotonic() - self._fleet_read_at < FLEET_SECONDS:
            return
        found = profiles.of_device(connection, self._capability.kind)
        self._speeds = {key: profile.seconds_per_image for key, profile in found.items()}
        self._loads = profiles.loads_of(connection, self._capability.kind)
        self._seen = profiles.rungs_of(connection, self._capability.kind)
        # Its own part first: the policy takes the first that looks like the worker for that.
        own_size = self._capability.ram_bytes.bit_length()
        self._fleet = tuple(
            sorted(
                fleet.parts(connection, now=self._ledger.now()),
                key=lambda part: abs(part.ram_bytes.bit_length() - own_size),
            )
        )
        self._fleet_read_at = time.monotonic()

    def _own_name(self, connection: sa.Connection) -> str:
        if self._name is None:
            statement = sa.select(tables.workers.c.name)
            self._name = connection.execute(
                statement.where(tables.workers.c.id == self._worker_id)
            ).scalar_one()
        return self._name


def _group_of(decision: Claim | Declined, candidates: list[OpenGroup]) -> OpenGroup | None:
    if isinstance(decision, Declined):
        return None
    return next(group for group in candidates if group.group_id == decision.group_id)


def _alike(chosen: OpenGroup, passed: list[tuple[Claim, OpenGroup]]) -> bool:
    """Whether taking this one instead of those that are held changes nothing that matters."""
    first = passed[0][1]
    return (
        len(passed) <= PASSED_OVER
        and chosen.model == first.model
        and chosen.priority == first.priority
    )


def _able(group: OpenGroup, parts: tuple[FleetPart, ...]) -> int:
    """How many live workers could do it."""
    fitting = (part for part in parts if policy.allowed_fit(group, part))
    return max(1, sum(part.count for part in fitting))
