"""The table of states and legal steps, and the chart drawn from it."""

from __future__ import annotations

import re
from enum import StrEnum

import pytest

from storage.contract.states import (
    INITIAL,
    STEPS,
    Entity,
    JobState,
    TaskState,
    WorkerState,
    chart,
    step,
)

STATES: dict[Entity, type[StrEnum]] = {
    Entity.JOB: JobState,
    Entity.TASK: TaskState,
    Entity.WORKER: WorkerState,
}


def edges(entity: Entity) -> set[tuple[StrEnum, StrEnum]]:
    return {(b, one.after) for one in STEPS if one.entity is entity for b in one.before}


def reachable_from(state: StrEnum, entity: Entity) -> set[StrEnum]:
    found = {state}
    while more := {after for before, after in edges(entity) if before in found} - found:
        found |= more
    return found


def verbs_from(state: StrEnum) -> set[str]:
    return {one.verb for one in STEPS if any(state is before for before in one.before)}


@pytest.mark.parametrize("entity", Entity)
def test_every_state_can_be_reached_from_the_initial_one(entity: Entity) -> None:
    assert reachable_from(INITIAL[entity], entity) == set(STATES[entity])


@pytest.mark.parametrize("entity", Entity)
def test_steps_stay_within_the_states_of_their_entity_and_lead_elsewhere(entity: Entity) -> None:
    for before, after in edges(entity):
        assert isinstance(before, STATES[entity])
        assert isinstance(after, STATES[entity])
        assert before is not after


@pytest.mark.parametrize("entity", Entity)
def test_a_verb_means_one_step(entity: Entity) -> None:
    verbs = [one.verb for one in STEPS if one.entity is entity]
    assert len(verbs) == len(set(verbs))
    assert [step(entity, verb).verb for verb in verbs] == verbs


@pytest.mark.parametrize("state", [state for state in TaskState if state != TaskState.LEASED])
def test_a_task_ends_once(state: TaskState) -> None:
    assert reachable_from(state, Entity.TASK) == {state}


def test_a_worker_that_left_comes_back_only_by_saying_that_it_lives() -> None:
    assert verbs_from(WorkerState.GONE) == {"rejoin"}


def test_a_job_can_only_be_left_without_outcome_by_being_cancelled() -> None:
    assert verbs_from(JobState.OPEN) == {"pause", "cancel", "finish"}
    assert verbs_from(JobState.PAUSED) == {"resume", "cancel", "finish"}


@pytest.mark.parametrize("state", [JobState.FINISHED, JobState.CANCELLED])
def test_an_ended_job_is_only_taken_up_again_by_a_retry(state: JobState) -> None:
    assert verbs_from(state) == {"retry"}


def test_an_unknown_verb_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        KeyError, match="no step 'claim' for a worker; there are: drain, leave, rejoin, wa"
    ):
        step(Entity.WORKER, "claim")


def test_the_chart_shows_every_step_and_every_initial_state_once() -> None:
    drawn = re.findall(r"(\w+) --> (\w+): (\w+) \((.+)\)", chart())
    listed = [
        (f"{one.entity}_{before}", f"{one.entity}_{one.after}", one.verb, one.who)
        for one in STEPS
        for before in one.before
    ]
    assert sorted(drawn) == sorted(listed)
    starts = re.findall(r"\[\*\] --> (\w+)", chart())
    assert starts == [f"{entity}_{state}" for entity, state in INITIAL.items()]
