"""Who claims what: the group a worker should take from, or why none.

The same function decides for one worker on a laptop, for a fleet, and in the simulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from scheduler.policy.chunks import cut_size, neighbours
from scheduler.policy.demand import Fleet, Prospect, Work, levels
from scheduler.policy.level import LEAVE_MARGIN, PAYS, STARVING_SECONDS, Level, last_touched
from scheduler.policy.reasons import reason_against
from storage.contract.claims import Claim, Declined, OpenGroup, WorkerView

DEADLINE_MARGIN_SECONDS: Final = 60.0
"""How much earlier than its deadline a job should end: what is under lease cannot be hurried."""

Pick = tuple[Prospect, OpenGroup]


def choose(groups: Sequence[OpenGroup], worker: WorkerView, now: float) -> Claim | Declined:
    """The group this worker should take from, and how many items; or why none.

    `groups` are open groups with claimable items. `now` is for rules that depend on time.
    """
    return choose_from(levels(groups), worker, now)


def choose_from(demand: Sequence[list[Work]], worker: WorkerView, now: float) -> Claim | Declined:
    """`choose` for groups that are summed up already, so that many workers can be asked."""
    fleet = Fleet(worker)
    backlog: dict[str, float] = {}
    reasons: dict[str, None] = {}
    for works in demand:
        level = Level(works, fleet, backlog)
        picked = _pick(level, now)
        if picked is not None:
            return _claim(level, *picked)
        for one in level.prospects:
            reasons.setdefault(reason_against(one, worker))
    return Declined(reasons=tuple(sorted(reasons)))


def _claim(level: Level, one: Prospect, group: OpenGroup) -> Claim:
    wanted = cut_size(level, one)
    items = min(wanted, _whole_batches(group))
    also = neighbours(level, one, group, room=wanted - items) if wanted > items else ()
    rung = one.rung
    return Claim(
        group_id=group.group_id,
        items=items,
        mode=rung.mode,
        also=also,
        batch=rung.batch,
        tiled=rung.tiled,
        memory_bytes=rung.memory_bytes,
    )


def _whole_batches(group: OpenGroup) -> int:
    return -(-group.claimable // group.batch_size) * group.batch_size


def _pick(level: Level, now: float) -> Pick | None:
    """What goes before everything else, or else the best model's fairest group."""
    worthwhile = [one for one in level.mine if level.worthwhile(one, now)]
    for job, candidates in (
        (_most_urgent_job(level, worthwhile, now), worthwhile),
        (_starving_job(level, now), level.mine),
    ):
        if job is not None:
            best = _preferred(level, [one for one in candidates if job in one.work.heads])
            return best, best.work.heads[job]
    if not worthwhile:
        return None
    best = _preferred(level, worthwhile)
    head = _fairest(best)
    rival = min(worthwhile, key=lambda one: _fair_key(_fairest(one)))
    if _far_behind(_fairest(rival), head):
        return rival, _fairest(rival)
    return best, head


# Between models


def _preferred(level: Level, candidates: list[Prospect]) -> Prospect:
    """The loaded model unless leaving it pays; else the model that misses this worker most."""
    loaded = [one for one in candidates if one.loaded]
    if loaded:
        stay = _within_model(loaded)
        others = [one for one in candidates if not one.loaded and _worth_leaving(level, stay, one)]
        others.sort(key=lambda one: (one.model, one.reach, _fair_key(_fairest(one))))
        return max(others, key=level.drain_joined, default=stay)
    model = max(
        candidates,
        key=lambda one: (level.missing(one), level.drains[one.model], -one.reach, one.model),
    ).model
    return _within_model([one for one in candidates if one.model == model])


def _worth_leaving(level: Level, stay: Prospect, other: Prospect) -> bool:
    """Whether the other model would still end later if this worker went over to it.

    Not on guesses: the first tasks tell, and are soon over.
    """
    if not (stay.all_measured and other.all_measured):
        return False
    ends = level.drain_joined(other)
    if ends - other.load < PAYS * other.load:
        return False
    return ends > level.drain_left(stay) * LEAVE_MARGIN


def _within_model(candidates: list[Prospect]) -> Prospect:
    """What fewest workers can do goes first to those that can."""
    return min(candidates, key=lambda one: (one.reach, _fair_key(_fairest(one))))


# Between jobs


def _fairest(one: Prospect) -> OpenGroup:
    """The first group of the job that has least under lease."""
    return min(one.work.heads.values(), key=_fair_key)


def _fair_key(group: OpenGroup) -> tuple[int, int, int, int]:
    return (group.submitter_leases, group.job_leases, group.job_id, group.group_id)


def _far_behind(rival: OpenGroup, head: OpenGroup) -> bool:
    """Whether the rival's share is so small that a loaded model is no excuse any more.

    That is below half of what the other would have with this worker. A worker that nobody
    shares with finishes what it is at; it would only go to and fro.
    """
    if rival.submitter != head.submitter:
        few, many = rival.submitter_leases, head.submitter_leases
    else:
        few, many = rival.job_leases, head.job_leases
    return many > 0 and 2 * few < many + 1


def _starving_job(level: Level, now: float) -> int | None:
    """The job that has waited longest, if that is too long."""
    touched: dict[int, float] = {}
    for one in level.mine:
        for group in one.work.groups:
            at = last_touched(group)
            if at > touched.get(group.job_id, -1.0):
                touched[group.job_id] = at
    if len(touched) < 2:
        return None
    job = min(touched, key=lambda job: (touched[job], job))
    # A time of 0 is not known, and no reason to hurry.
    return job if 0 < touched[job] < now - STARVING_SECONDS else None


def _most_urgent_job(level: Level, worthwhile: list[Prospect], now: float) -> int | None:
    """The job with least slack, of those that would miss their deadline with a fair share.

    A deadline that has passed gives no right any more: the others' can still be met.
    """
    deadlines = {
        group.job_id: group.deadline_at
        for one in worthwhile
        for group in one.work.heads.values()
        if group.deadline_at is not None and group.deadline_at > now
    }
    if not deadlines:
        return None
    needs = dict.fromkeys(deadlines, 0.0)
    jobs: set[int] = set()
    for one in level.prospects:
        jobs.update(one.work.heads)
        for group in one.work.groups:
            if group.job_id in needs and one.able > 0:
                needs[group.job_id] += (group.claimable + group.leased) / one.able
    late = {
        job: deadline - now - needs[job]
        for job, deadline in deadlines.items()
        if now + needs[job] * len(jobs) + DEADLINE_MARGIN_SECONDS > deadline
    }
    return min(late, key=lambda job: (late[job], job)) if late else None
