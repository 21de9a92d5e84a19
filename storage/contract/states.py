"""Every state and every legal step between states, as one table.

`storage.db.transitions.advance` is the only writer of a state column and takes its conditions
from here; the README's chart is generated from here (`chart`), and a test fails when it drifts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    """What a job is up to. Moved by the user's commands and by its own counters."""

    OPEN = "open"  #: workers may claim from it; written by submit
    PAUSED = "paused"  #: nothing is claimed until it is resumed
    CANCELLED = "cancelled"  #: nothing more will be claimed; what is rendered stays
    FINISHED = "finished"  #: every item has its one outcome


class TaskState(StrEnum):
    """What a task is up to. A task is born leased, and ends once."""

    LEASED = "leased"  #: one worker holds the right to it
    FINISHED = "finished"  #: every item of it has its one outcome
    RETURNED = "returned"  #: handed back by its worker without blame (drain, cancel)
    LAPSED = "lapsed"  #: the lease ran out, or the worker's process is gone
    FAILED = "failed"  #: the attempt raised an error


class WorkerState(StrEnum):
    """What a worker process is up to."""

    LIVE = "live"  #: registered, and heard from
    DRAINING = "draining"  #: told to stop: finishes or hands back, claims nothing more
    GONE = "gone"  #: stopped, or not heard from for too long


class Entity(StrEnum):
    """The kinds of row that have a state."""

    JOB = "job"
    TASK = "task"
    WORKER = "worker"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One legal step: `verb` takes an `entity` from any of `before` to `after`."""

    entity: Entity
    verb: str
    before: tuple[StrEnum, ...]
    after: StrEnum
    who: str


_J, _T, _W = JobState, TaskState, WorkerState
_UNENDED = (_J.OPEN, _J.PAUSED)

STEPS: tuple[Step, ...] = (
    Step(entity=Entity.JOB, verb="pause", before=(_J.OPEN,), after=_J.PAUSED, who="user"),
    Step(entity=Entity.JOB, verb="resume", before=(_J.PAUSED,), after=_J.OPEN, who="user"),
    Step(entity=Entity.JOB, verb="cancel", before=_UNENDED, after=_J.CANCELLED, who="user"),
    Step(entity=Entity.JOB, verb="finish", before=_UNENDED, after=_J.FINISHED, who="commit"),
    Step(
        entity=Entity.JOB,
        verb="retry",
        before=(_J.FINISHED, _J.CANCELLED),
        after=_J.OPEN,
        who="user",
    ),
    Step(entity=Entity.TASK, verb="finish", before=(_T.LEASED,), after=_T.FINISHED, who="commit"),
    Step(entity=Entity.TASK, verb="return", before=(_T.LEASED,), after=_T.RETURNED, who="worker"),
    Step(entity=Entity.TASK, verb="lapse", before=(_T.LEASED,), after=_T.LAPSED, who="rescue"),
    Step(entity=Entity.TASK, verb="fail", before=(_T.LEASED,), after=_T.FAILED, who="worker"),
    Step(entity=Entity.WORKER, verb="drain", before=(_W.LIVE,), after=_W.DRAINING, who="user"),
    Step(entity=Entity.WORKER, verb="wake", before=(_W.DRAINING,), after=_W.LIVE, who="user"),
    Step(
        entity=Entity.WORKER,
        verb="leave",
        before=(_W.LIVE, _W.DRAINING),
        after=_W.GONE,
        who="worker, rescue",
    ),
    Step(entity=Entity.WORKER, verb="rejoin", before=(_W.GONE,), after=_W.LIVE, who="worker"),
)

INITIAL: dict[Entity, StrEnum] = {
    Entity.JOB: JobState.OPEN,
    Entity.TASK: TaskState.LEASED,
    Entity.WORKER: WorkerState.LIVE,
}


def step(entity: Entity, verb: str) -> Step:
    """The legal step of that name; `KeyError` names what there is."""
    for candidate in STEPS:
        if candidate.entity is entity and candidate.verb == verb:
            return candidate
    known = sorted(s.verb for s in STEPS if s.entity is entity)
    raise KeyError(f"no step {verb!r} for a {entity}; there are: {', '.join(known)}")


def chart() -> str:
    """The table as one mermaid state diagram, with composite states per entity."""
    lines = ["stateDiagram-v2"]
    for entity in Entity:
        lines.append(f"    state {entity.value.capitalize()} {{")
        lines.append(f"        [*] --> {entity.value}_{INITIAL[entity]}")
        for one in (s for s in STEPS if s.entity is entity):
            for before in one.before:
                lines.append(
                    f"        {entity.value}_{before} --> {entity.value}_{one.after}"
                    f": {one.verb} ({one.who})"
                )
        lines.append("    }")
    return "\n".join(lines) + "\n"
