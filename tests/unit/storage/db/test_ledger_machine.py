"""Whatever happens in whatever order, every item is in one place and every counter is right.

A state machine plays users, workers and the rescue against a ledger, and after each step
compares what the rows say with each other. At the end it lets the work run out and checks that
every item has exactly one outcome.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import event

from storage.contract.capability import Mode
from storage.contract.claims import Claim, ClaimedTask
from storage.contract.errors import LeaseLost, StaleTransition
from storage.contract.outcomes import DIVISIBLE, Failure, Outcome, Reason
from storage.contract.states import Entity, JobState, TaskState
from storage.db import cutting, groups, jobs, steering, tables, tasks
from storage.db.engine import Ledger, open_sqlite
from storage.db.schema import ensure_schema
from storage.db.tasks import TaskRef
from storage.db.transitions import advance
from storage.testing.factories import (
    FakeClock,
    add_groups,
    add_worker,
    cut_task,
    make_failure,
    make_image_row,
    ref_of,
)
from tests.services.postgres import empty

WORKERS = 3
MOST_HELD = 5
Rows = dict[str, list[Any]]

which = st.integers(0, 1_000)  # one of several, whatever their number
bits = st.integers(0, 2**60 - 1)
reasons = st.sampled_from(Reason)
group_sizes = st.tuples(st.integers(1, 60), st.integers(1, 7))


@cache
def migrated() -> bytes:
    """The file of a ledger without rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalog.db"
        opened = open_sqlite(path)
        ensure_schema(opened)
        opened.close()
        return path.read_bytes()


@contextmanager
def in_a_file() -> Iterator[Ledger]:
    """An empty ledger on SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalog.db"
        path.write_bytes(migrated())
        opened = open_sqlite(path)
        # No power will be cut here.
        event.listen(opened.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF"))
        yield opened
        opened.close()


def name_of(worker_id: int) -> str:
    """What the worker with that id is called."""
    return f"testhost/cpu#{worker_id - 1}"


def held(row: Any) -> set[int]:
    """The items of a row's range."""
    return set(range(row.first_item, row.stop_item))


class LedgerMachine(RuleBasedStateMachine):
    """Users, workers and the rescue, taking turns at random."""

    opened: Callable[[], AbstractContextManager[Ledger]] = staticmethod(in_a_file)

    def __init__(self) -> None:
        super().__init__()
        self.closing = ExitStack()
        self.ledger = self.closing.enter_context(self.opened())
        for pid in range(WORKERS):
            add_worker(self.ledger, pid=pid)
        self.clock = FakeClock()
        self.jobs = 0
        self.leases = 0
        self.held: list[ClaimedTask] = []
        self.holder: dict[int, int] = {}  # task to worker
        self.started: set[int] = set()
        self.ended: list[ClaimedTask] = []
        self.done: set[tuple[int, int]] = set()
        self.failed: set[tuple[int, int]] = set()
        #: (job, item) to what its attempts failed of, as this machine remembers it
        self.suffered: dict[tuple[int, int], tuple[Failure, ...]] = {}

    @initialize(sizes=st.lists(group_sizes, min_size=1, max_size=3))
    def submit(self, sizes: list[tuple[int, int]]) -> None:
        self.jobs += 1
        add_groups(self.ledger, *sizes, name=f"job-{self.jobs}")

    @precondition(lambda self: len(self.held) < MOST_HELD)
    @rule(
        worker=st.integers(1, WORKERS),
        items=st.integers(1, 70),
        group=which,
        seconds=st.sampled_from([0.0, 0.4, 3.0]),
    )
    def claim(self, worker: int, items: int, group: int, seconds: float) -> None:
        self.clock.advance(seconds)
        if candidates := self._candidates():
            self._claim(worker, items, candidates[group % len(candidates)].group_id)

    def _claim(self, worker: int, items: int, group_id: int) -> ClaimedTask | None:
        self.leases += 1
        task = cut_task(
            self.ledger, worker, items=items, group_id=group_id, lease=self.leases, now=self.clock()
        )
        if task is None:
            self._check_that_nothing_is_due(group_id)
            return None
        size = task.spec.batch.denoise
        taken = {(task.job_id, item) for item in range(task.first_item, task.stop_item)}
        assert taken
        assert not taken & self.done
        assert task.items <= max(items, size)
        histories = {self.suffered.get(item, ()) for item in taken}
        assert histories == {task.failures}, "failures stay with the items they happened to"
        self.held.append(task)
        self.holder[task.task_id] = worker
        self.started.add(task.task_id)
        return task

    @precondition(lambda self: len(self.held) < MOST_HELD)
    @rule(worker=st.integers(1, WORKERS), groups_=st.sets(which, min_size=1, max_size=3))
    def claim_whole(self, worker: int, groups_: set[int]) -> None:
        """Groups that nobody touched, to be carried out one after the other."""
        self.leases += 1
        candidates = self._candidates()
        chosen = {candidates[one % len(candidates)].group_id for one in groups_ if candidates}
        lease = cutting.Lease(worker_id=worker, token=self.leases, seconds=60.0)
        untouched = {
            row.id
            for row in self.rows()["groups"]
            if row.id in chosen and row.next_item == row.first_item
        }
        with self.ledger.write() as connection:
            claim = Claim(group_id=0, items=0, mode=Mode.CPU)
            found = cutting.cut_whole(connection, sorted(chosen), lease, claim, now=self.clock())
        assert {task.group_id for task in found} == untouched
        for task in found:
            assert task.failures == ()
            self.held.append(task)
            self.holder[task.task_id] = worker

    @precondition(lambda self: self.held)
    @rule(task=which)
    def start(self, task: int) -> None:
        """The worker comes to a task that waited."""
        one, now = self._one(task), self.clock()
        with self.ledger.write() as connection:
            tasks.start(connection, ref_of(one), expires_at=now + 60, now=now)
        self.started.add(one.task_id)

    def _check_that_nothing_is_due(self, group_id: int) -> None:
        rows = self.rows()
        (group,) = [row for row in rows["groups"] if row.id == group_id]
        assert group.next_item == group.stop_item
        waiting = [row for row in rows["returned"] if row.group_id == group_id]
        assert all(row.not_before > self.clock() for row in waiting)

    @precondition(lambda self: self.held)
    @rule(task=which, chosen=bits | st.just(-1), bad=bits | st.just(0))
    def commit(self, task: int, chosen: int, bad: int) -> None:
        """Undone items of which the bit in `chosen` is set, failed if that in `bad` is too."""
        self._commit(self._one(task), chosen, bad)

    def _commit(self, task: ClaimedTask, chosen: int, bad: int) -> None:
        undone = self._undone(task)
        items = [item for place, item in enumerate(undone) if chosen >> place & 1]
        rows = [
            make_image_row(
                task,
                item,
                outcome=Outcome.FAILED if bad >> place & 1 else Outcome.RENDERED,
                worker_id=1 + place % WORKERS,
            )
            for place, item in enumerate(items)
        ]
        now = self.clock()
        with self.ledger.write() as connection:
            ended = tasks.commit(connection, ref_of(task), rows, expires_at=now + 60, now=now)
        self.done |= {(task.job_id, item) for item in items}
        self.failed |= {(row.job_id, row.item) for row in rows if row.outcome == Outcome.FAILED}
        assert ended.task == (items == undone)
        if ended.task:
            self._end(task)

    @precondition(lambda self: self.held)
    @rule(task=which, way=st.sampled_from(["return", "fail", "lapse"]), reason=reasons)
    def end(self, task: int, way: str, reason: Reason) -> None:
        """A worker hands its task back, its attempt raises, or it is not heard from."""
        one, now = self._one(task), self.clock()
        undone = self._undone(one)
        failure = make_failure(reason=reason, at=now)
        with self.ledger.write() as connection:
            if way == "return":
                count = tasks.hand_back(connection, ref_of(one), now=now)
            elif way == "fail":
                count = tasks.fail(connection, ref_of(one), failure)
            else:
                count = tasks.lapse(connection, ref_of(one), now=now, failure=failure)
        assert count == len(undone)
        self._end(one)
        if way != "return" and one.task_id in self.started:
            kept = make_failure(
                reason=reason,
                at=now,
                items=count,
                worker=name_of(self.holder[one.task_id]),
                first_item=undone[0],
            )
            self.suffered |= {(one.job_id, item): (*one.failures, kept) for item in undone}
            parts = [row for row in self.rows()["returned"] if held(row) & set(undone)]
            assert len(parts) > 1 or count == 1 or reason not in DIVISIBLE

    @precondition(lambda self: self.held)
    @rule(task=which, step=st.sampled_from(range(6)), forged=st.booleans())
    def act_without_the_lease(self, task: int, step: int, forged: bool) -> None:
        """A worker that was thought gone comes back, or somebody makes a lease up."""
        one = self._one(task) if forged or not self.ended else self.ended[task % len(self.ended)]
        ref = TaskRef(one.task_id, one.lease if one in self.ended else one.lease + 1_000_000)
        row = make_image_row(one, one.first_item)
        failure = make_failure(at=self.clock())
        now = self.clock()
        steps: list[Callable[[sa.Connection], object]] = [
            lambda c: tasks.commit(c, ref, [row], expires_at=now, now=now),
            lambda c: tasks.commit(c, ref, [], expires_at=now, now=now),
            lambda c: tasks.renew(c, ref, expires_at=now),
            lambda c: tasks.hand_back(c, ref, now=now),
            lambda c: tasks.fail(c, ref, failure),
            lambda c: tasks.lapse(c, ref, now=now, failure=failure),
        ]
        before = self.rows()
        with pytest.raises(LeaseLost), self.ledger.write() as connection:
            steps[step](connection)
        assert self.rows() == before

    @precondition(lambda self: self.held)
    @rule(
        what=st.sampled_from(["pause", "resume", "cancel", "submit", "renew"]),
        one=which,
        size=group_sizes,
    )
    def interfere(self, what: str, one: int, size: tuple[int, int]) -> None:
        """What users do, and what changes no counter."""
        if what == "submit":
            self.submit([size])
        elif what == "renew":
            with self.ledger.write() as connection:
                tasks.renew(connection, ref_of(self._one(one)), expires_at=self.clock() + 60)
        else:
            with suppress(StaleTransition), self.ledger.write() as connection:
                advance(connection, Entity.JOB, 1 + one % self.jobs, what, now=self.clock())

    @rule(one=which)
    def retry(self, one: int) -> None:
        """The failed items of a job can be claimed again, and nobody remembers of what."""
        job = 1 + one % self.jobs
        under_way = {
            (task.job_id, item)
            for task in self.held
            for item in range(task.first_item, task.stop_item)
        }
        mine = {item for item in self.failed if item[0] == job} - under_way
        with self.ledger.write() as connection:
            assert steering.retry_failed(connection, job, now=self.clock()) == len(mine)
            if mine:
                assert jobs.get(connection, job).state in (JobState.OPEN, JobState.PAUSED)
        self.done -= mine
        self.failed -= mine
        for item in [item for item in self.suffered if item[0] == job]:
            if item not in under_way:
                del self.suffered[item]

    def _one(self, task: int) -> ClaimedTask:
        return self.held[task % len(self.held)]

    def _undone(self, task: ClaimedTask) -> list[int]:
        items = range(task.first_item, task.stop_item)
        return [item for item in items if (task.job_id, item) not in self.done]

    def _end(self, task: ClaimedTask) -> None:
        self.held.remove(task)
        self.ended.append(task)

    def rows(self) -> Rows:
        """All rows of the tables that matter, read at one moment."""
        with self.ledger.read() as connection:
            return {
                table.name: list(
                    connection.execute(sa.select(table).order_by(*table.primary_key.columns))
                )
                for table in (
                    tables.jobs,
                    tables.groups,
                    tables.tasks,
                    tables.returned,
                    tables.images,
                    tables.events,
                )
            }

    @invariant()
    def every_item_is_in_one_place_and_all_counters_say_so(self) -> None:
        rows = self.rows()
        outcomes = {(row.job_id, row.item): row for row in rows["images"]}
        assert set(outcomes) == self.done
        for group in rows["groups"]:
            self._check_group(group, rows, outcomes)
        for job in rows["jobs"]:
            self._check_job(job, rows)
        for task in rows["tasks"]:
            self._check_task(task, rows)

    def _check_group(self, group: Any, rows: Rows, outcomes: dict[tuple[int, int], Any]) -> None:
        own = [row for row in outcomes.values() if row.group_id == group.id]
        recorded = {row.item for row in own}
        never = set(range(group.next_item, group.stop_item))
        returned = [held(row) for row in rows["returned"] if row.group_id == group.id]
        leased = [
            held(row) - recorded
            for row in rows["tasks"]
            if row.group_id == group.id and row.state == TaskState.LEASED
        ]
        places = Counter(item for part in [never, recorded, *returned, *leased] for item in part)
        assert places == Counter(range(group.first_item, group.stop_item))

        failed = sum(row.outcome == Outcome.FAILED for row in own)
        assert (group.claimable, group.leased, group.done, group.failed) == (
            len(never) + sum(map(len, returned)),
            sum(map(len, leased)),
            len(own) - failed,
            failed,
        )

    def _check_job(self, job: Any, rows: Rows) -> None:
        own = [row for row in rows["images"] if row.job_id == job.id]
        failed = sum(row.outcome == Outcome.FAILED for row in own)
        assert (job.done, job.failed) == (len(own) - failed, failed)
        whole = len(own) == job.item_count
        assert (job.state == JobState.FINISHED) == (whole and job.state != JobState.CANCELLED)
        assert (job.finished_at is not None) == (job.state == JobState.FINISHED)

    def _check_task(self, task: Any, rows: Rows) -> None:
        own = [row for row in rows["images"] if row.task_id == task.id]
        failed = sum(row.outcome == Outcome.FAILED for row in own)
        assert {row.item for row in own} <= held(task)
        assert task.done == len(own) - failed
        assert task.failed >= failed  # what was retried since is recorded by another task
        whole = task.done + task.failed == task.stop_item - task.first_item
        assert (task.state == TaskState.FINISHED) == whole
        is_held = task.id in {one.task_id for one in self.held}
        assert (task.state == TaskState.LEASED) == is_held == (task.ended_at is None)
        verbs = [
            row.verb
            for row in rows["events"]
            if (row.entity, row.entity_id) == (Entity.TASK, task.id)
        ]
        assert verbs[0] == "claim"
        assert len(verbs) == (1 if is_held else 2)

    def teardown(self) -> None:
        """Let the work run out: every item of a job nobody cancelled has one outcome."""
        try:
            self._drain()
        finally:
            self.closing.close()

    def _drain(self) -> None:
        for held_back in list(self.held):
            with self.ledger.write() as connection:
                tasks.hand_back(connection, ref_of(held_back), now=self.clock())
            self._end(held_back)
        for job in self.rows()["jobs"]:
            if job.state == JobState.PAUSED:
                with self.ledger.write() as connection:
                    advance(connection, Entity.JOB, job.id, "resume", now=self.clock())
        self.clock.advance(60)
        while candidates := self._candidates():
            for group in candidates:
                task = self._claim(1, 64, group.group_id)
                assert task, "after a while everything can be claimed"
                self._commit(task, -1, 0)
        self.every_item_is_in_one_place_and_all_counters_say_so()
        with self.ledger.read() as connection:
            for job_of_all in jobs.newest(connection, limit=99):
                if job_of_all.state != JobState.CANCELLED:
                    assert (job_of_all.state, job_of_all.remaining) == (JobState.FINISHED, 0)

    def _candidates(self) -> list[Any]:
        with self.ledger.read() as connection:
            return list(groups.open_groups(connection, limit=99, job_id=None))


CHECKS = settings(
    max_examples=12,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
LedgerMachine.TestCase.settings = CHECKS
TestLedger = LedgerMachine.TestCase


def test_the_same_on_postgresql(postgres_ledger: Ledger) -> None:
    @contextmanager
    def emptied() -> Iterator[Ledger]:
        empty(postgres_ledger)
        yield postgres_ledger

    class OnPostgres(LedgerMachine):
        opened = staticmethod(emptied)

    run_state_machine_as_test(
        OnPostgres, settings=settings(CHECKS, max_examples=8, stateful_step_count=30)
    )
