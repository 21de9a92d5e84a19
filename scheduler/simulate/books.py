"""Jobs, groups and tasks in memory, by the rules of the ledger: a counter and returned ranges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from scheduler.simulate.scenario import JobSpec, ModelSpec, Scenario
from storage.contract.capability import Mode, ModeNeed, Requirements
from storage.contract.claims import Claim, OpenGroup
from storage.contract.classes import GIB

REFERENCE_TFLOPS = 20.0  # what the estimate assumes of a GPU that was not measured


@dataclass(slots=True)
class Job:
    """One job's counters."""

    id: int
    spec: JobSpec
    left: int = 0  #: items without image
    leases: int = 0
    first_claim: float | None = None
    ended: float | None = None


@dataclass(slots=True)
class Group:
    """One group: `leased` items go down by `rate` a second since `since`."""

    id: int
    job: Job
    model: str
    requirements: Requirements
    batch: int
    stop: int
    claimable: int
    next: int = 0
    returned: list[tuple[int, int]] = field(default_factory=list)
    leased: float = 0.0
    rate: float = 0.0
    since: float = 0.0
    last_claimed_at: float | None = None

    def run(self, now: float, *, items: float = 0.0, rate: float = 0.0) -> None:
        """Bring the leased items up to `now`, then change them and their rate."""
        self.leased += items - self.rate * (now - self.since)
        self.rate += rate
        self.since = now

    def leased_at(self, now: float) -> int:
        """Items under lease without image."""
        return max(0, round(self.leased - self.rate * (now - self.since)))


@dataclass(slots=True)
class Piece:
    """A cut range of one group, under lease."""

    group: Group
    first: int
    stop: int

    @property
    def items(self) -> int:
        """How many items it has."""
        return self.stop - self.first

    @property
    def batches(self) -> int:
        """How many batches are computed for it."""
        size = self.group.batch
        return -(-self.stop // size) - self.first // size


class Books:
    """All jobs that were submitted."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._needs = {name: requirements(spec) for name, spec in scenario.models.items()}
        self.jobs: list[Job] = []
        self.groups: dict[int, Group] = {}
        self.open: dict[int, Group] = {}  #: those with claimable items
        self.submitter_leases: dict[str, int] = {}

    def submit(self, spec: JobSpec) -> None:
        """Write down a job and its groups."""
        job = Job(id=len(self.jobs) + 1, spec=spec)
        self.jobs.append(job)
        for groups in spec.groups:
            for _ in range(groups.copies):
                group = Group(
                    id=len(self.groups) + 1,
                    job=job,
                    model=groups.model,
                    requirements=self._needs[groups.model],
                    batch=groups.batch,
                    stop=groups.items,
                    claimable=groups.items,
                    since=spec.at,
                )
                self.groups[group.id] = self.open[group.id] = group
                job.left += groups.items

    @property
    def undone(self) -> int:
        """Items without image, of all jobs."""
        return sum(job.left for job in self.jobs)

    def outcomes(self) -> Iterator[tuple[JobSpec, float | None, float | None]]:
        """Each job with when something of it was first claimed, and when it ended."""
        return ((job.spec, job.first_claim, job.ended) for job in self.jobs)

    def open_groups(self, now: float) -> list[OpenGroup]:
        """What a claim reads."""
        return [self._view(group, now) for group in self.open.values()]

    def cut(self, claim: Claim, now: float) -> list[Piece]:
        """Cut what was claimed and put it under lease."""
        pieces = [self._cut(self.groups[claim.group_id], claim.items, now)]
        for group_id in claim.also:
            group = self.groups[group_id]
            pieces.append(self._cut(group, group.claimable, now))
        return pieces

    def done(self, piece: Piece, now: float, *, through: int) -> None:
        """Items up to `through` have images."""
        job = piece.group.job
        job.left -= through - piece.first
        if job.left == 0:
            job.ended = now

    def end(self, piece: Piece, *, undone_from: int) -> None:
        """The lease ends; what has no image goes back."""
        group, job = piece.group, piece.group.job
        job.leases -= 1
        self.submitter_leases[job.spec.submitter] -= 1
        if undone_from < piece.stop:
            group.returned.append((undone_from, piece.stop))
            group.claimable += piece.stop - undone_from
            self.open[group.id] = group

    def _cut(self, group: Group, count: int, now: float) -> Piece:
        if group.returned:
            first, stop = group.returned.pop(0)
            border = max((first + count) // group.batch, first // group.batch + 1) * group.batch
            if border < stop:
                group.returned.insert(0, (border, stop))
                stop = border
        else:
            first = group.next
            border = max((first + count) // group.batch, first // group.batch + 1) * group.batch
            stop = group.next = min(border, group.stop)
        group.claimable -= stop - first
        if group.claimable == 0:
            del self.open[group.id]
        job = group.job
        job.leases += 1
        submitter = job.spec.submitter
        self.submitter_leases[submitter] = self.submitter_leases.get(submitter, 0) + 1
        job.first_claim = now if job.first_claim is None else job.first_claim
        group.last_claimed_at = now
        return Piece(group, first, stop)

    def _view(self, group: Group, now: float) -> OpenGroup:
        job = group.job
        return OpenGroup(
            group_id=group.id,
            job_id=job.id,
            model=group.model,
            priority=job.spec.priority,
            claimable=group.claimable,
            batch_size=group.batch,
            requirements=group.requirements,
            profile_key=group.model,
            submitter=job.spec.submitter,
            submitted_at=EPOCH + job.spec.at,
            deadline_at=_deadline(job.spec),
            cpu=job.spec.cpu,
            last_claimed_at=None
            if group.last_claimed_at is None
            else EPOCH + group.last_claimed_at,
            leased=group.leased_at(now),
            job_leases=job.leases,
            submitter_leases=self.submitter_leases.get(job.spec.submitter, 0),
        )


EPOCH = 1_000_000.0
"""What the policy's clock shows when a simulation begins: 0 would mean "not known"."""


def _deadline(spec: JobSpec) -> float | None:
    return None if spec.deadline is None else EPOCH + spec.at + spec.deadline


def requirements(spec: ModelSpec) -> Requirements:
    """What the policy is told of a model."""
    needs = (ModeNeed(mode=mode, memory_bytes=int(gib * GIB)) for mode, gib in spec.gib.items())
    order = list(Mode)
    modes = tuple(sorted(needs, key=lambda need: order.index(need.mode)))
    disk = spec.disk_gib if spec.disk_gib is not None else modes[0].memory_bytes / GIB
    return Requirements(
        modes=modes,
        disk_bytes=int(disk * GIB),
        tflop_per_image=spec.seconds * spec.guess * REFERENCE_TFLOPS,
    )
