"""The simulation: what happens to jobs and workers under the virtual clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.simulate.outcome import Outcome, summary
from scheduler.simulate.run import simulate
from scheduler.simulate.scenario import checked

Make = Callable[..., Any]

TWO_MODELS = {
    "a": {"gib": {"resident": 6}, "seconds": 1.0, "load_seconds": 10},
    "b": {"gib": {"resident": 6}, "seconds": 1.0, "load_seconds": 10},
}


def job(name: str, model: str = "a", items: int = 200, **overrides: Any) -> dict[str, Any]:
    return {"name": name, "groups": [{"model": model, "items": items}]} | overrides


def timeless(outcome: Outcome) -> Outcome:
    """The outcome without the CPU times of this machine."""
    return msgspec.structs.replace(outcome, loop_cpu=0.0, claim_cpu=0.0)


def took(outcome: Outcome, name: str) -> float:
    (found,) = [one for one in outcome.jobs if one.name == name]
    assert found.ended is not None
    return found.ended


def test_equal_workers_without_noise_end_as_the_bound_says(scenario: Make) -> None:
    outcome = simulate(scenario(), 1)
    assert outcome.bound == 60
    assert 60 <= outcome.makespan < 63
    assert outcome.loads == 4
    assert outcome.busy == pytest.approx(200)


def test_the_same_seed_gives_the_same_outcome_and_another_one_another(scenario: Make) -> None:
    rough = scenario(
        noise=0.1, speeds_known=False, faults={"slow_share": 0.25, "deaths_per_task": 0.1}
    )
    assert timeless(simulate(rough, 3)) == timeless(simulate(rough, 3))
    assert timeless(simulate(rough, 3)) != timeless(simulate(rough, 4))


def test_what_a_dead_worker_held_is_rendered_by_others(scenario: Make) -> None:
    outcome = simulate(scenario(faults={"deaths_per_task": 0.2}), 2)
    assert outcome.deaths > 0
    assert outcome.loads > 4  # the replacements'
    assert not outcome.stalled
    assert took(outcome, "one") == outcome.makespan > outcome.bound


def test_slow_workers_are_given_less(scenario: Make) -> None:
    slow = {"slow_share": 0.25, "slow_speed": 0.1}
    outcome = simulate(scenario(faults=slow, jobs=[job("one", items=2000)], speeds_known=False), 1)
    assert outcome.ratio < 1.1


def test_work_that_nobody_can_do_is_explained(scenario: Make) -> None:
    outcome = simulate(scenario(workers=[{"kind": "card", "count": 4, "vram_gib": 4}]), 1)
    assert outcome.stalled == (
        "needs 6.0 GiB of VRAM (resident); the largest live worker has 4.0 GiB",
    )


def test_a_higher_priority_acts_within_one_task(scenario: Make) -> None:
    jobs = [job("long", items=20_000), job("urgent", items=20, at=500, priority=5)]
    outcome = simulate(scenario(jobs=jobs), 1)
    urgent = next(one for one in outcome.jobs if one.name == "urgent")
    assert urgent.first_claim is not None
    assert urgent.first_claim < 121


def test_two_submitters_share_the_fleet_though_one_came_first(scenario: Make) -> None:
    jobs = [
        job("first", "a", 4000, submitter="ann"),
        job("second", "b", 400, submitter="bob", at=300),
    ]
    alone = simulate(scenario(models=TWO_MODELS, jobs=[job("second", "b", 400)]), 1)
    outcome = simulate(scenario(models=TWO_MODELS, jobs=jobs), 1)
    assert took(outcome, "second") < 4 * took(alone, "second")


def test_jobs_of_one_model_each_do_not_make_workers_swap_for_ever(scenario: Make) -> None:
    jobs = [job(f"{model}{n}", model, 500) for n in range(4) for model in "ab"]
    outcome = simulate(scenario(models=TWO_MODELS, jobs=jobs), 1)
    assert outcome.loads_per_worker <= 3
    assert outcome.ratio < 1.1


def test_a_deadline_is_met_that_a_fair_share_would_miss(scenario: Make) -> None:
    long = job("long", items=8000, submitter="ann")
    short = job("short", items=800, submitter="bob")
    due = short | {"deadline": 330}
    outcomes = [simulate(scenario(jobs=[long, one]), 1) for one in (short, due)]
    assert took(outcomes[0], "short") > 330
    assert [one.deadline_met for one in outcomes[1].jobs] == [None, True]


def test_tickets_come_within_a_tick(scenario: Make) -> None:
    outcome = simulate(scenario(tick_seconds=1.5), 1)
    assert outcome.ticket_wait <= 1.5 + 0.02


def test_medians_are_over_seeds(scenario: Make) -> None:
    runs = [simulate(scenario(noise=0.1), seed) for seed in range(1, 4)]
    found = summary("small", runs)
    assert found.seeds == 3
    assert found.ratio == sorted(run.ratio for run in runs)[1]
    assert found.worst_ratio == max(run.ratio for run in runs)


WORKERS = st.lists(
    st.fixed_dictionaries(
        {
            "count": st.integers(1, 4),
            "vram_gib": st.sampled_from([0, 8, 12, 24]),
            "speed": st.sampled_from([0.1, 0.5, 1.0]),
        }
    ),
    min_size=1,
    max_size=3,
).map(lambda specs: [spec | {"kind": f"kind {n}"} for n, spec in enumerate(specs)])
JOBS = st.lists(
    st.fixed_dictionaries(
        {
            "at": st.sampled_from([0, 50, 400]),
            "priority": st.integers(-1, 1),
            "submitter": st.sampled_from(["ann", "bob"]),
            "cpu": st.sampled_from(["auto", "never"]),
            "deadline": st.none() | st.floats(1, 1000),
            "groups": st.lists(
                st.fixed_dictionaries(
                    {
                        "model": st.sampled_from(["a", "b", "c"]),
                        "items": st.integers(1, 120),
                        "batch": st.integers(1, 4),
                        "copies": st.integers(1, 3),
                    }
                ),
                min_size=1,
                max_size=3,
            ),
        }
    ),
    min_size=1,
    max_size=3,
).map(lambda specs: [spec | {"name": f"job {n}"} for n, spec in enumerate(specs)])
MODELS = {
    "a": {"gib": {"resident": 6, "cpu": 10}, "seconds": 1.0},
    "b": {"gib": {"resident": 10, "phased": 7}, "seconds": 2.0, "guess": 3.0},
    "c": {"gib": {"resident": 20}, "seconds": 3.0, "guess": 0.3},
}


@settings(max_examples=40, deadline=None)
@given(WORKERS, JOBS, st.booleans(), st.sampled_from([0.0, 0.1]), st.integers(0, 99))
def test_nobody_starves_whatever_the_fleet_and_the_jobs(
    workers: list[dict[str, Any]],
    jobs: list[dict[str, Any]],
    known: bool,
    deaths: float,
    seed: int,
) -> None:
    # One large card makes sure that everything can be done by somebody.
    everything = [*workers, {"kind": "large", "count": 1, "vram_gib": 24}]
    described = checked(
        {
            "name": "any",
            "models": MODELS,
            "workers": everything,
            "jobs": jobs,
            "noise": 0.1,
            "speeds_known": known,
            "faults": {"deaths_per_task": deaths, "slow_share": 0.2},
        },
        "test",
    )
    outcome = simulate(described, seed)
    assert not outcome.stalled
    assert all(one.ended is not None for one in outcome.jobs)
