"""The table of simulated scenarios: `python tests/benchmarks/bench_simulate.py > ...md`.

Each scenario of examples/scenarios with ten seeds (the largest with one), medians. The numbers
but the CPU times follow from the policy and the seeds alone, so a change of the policy shows
as a change of this table.
"""

from __future__ import annotations

import sys
from pathlib import Path

from scheduler.simulate.outcome import Summary, summary
from scheduler.simulate.run import simulate
from scheduler.simulate.scenario import Scenario, read_scenario

SCENARIOS = Path(__file__).parents[2] / "examples" / "scenarios"
SEEDS = 10
FEW_SEEDS = {"fleet-10k": 1}

HEAD = """\
# Simulated scenarios

Made by `python tests/benchmarks/bench_simulate.py > tests/benchmarks/SIMULATIONS.md`; medians of
ten seeds (`fleet-10k`: one seed). *Bound* is the fluid bound: for each set of models, its work
over the summed true speed of all workers that can do any of it, plus one load; the largest
counts. No schedule can beat it. *Loads* counts every loading of a model, the first of each worker
included, over the number of workers. *Wait* is how long an idle worker waited for its ticket, 99
of 100 claims less. *Loop* is CPU time of the ticket rules per simulated second, *decision* the
CPU time of one `choose`, both on one core of the machine that made this table. A test
(`tests/unit/scheduler/simulate/test_targets.py`) holds the limits.

`mixed`: four models (6, 10, 14, 20 GiB) on 48 workers of five classes, 25 s to load a model, all
speeds known, times of tasks vary by 5 %. `rough`: the same with a tenth of the workers at 0.3x,
2 % of the workers dying once, times varying by 10 %, no speed known at the start and first
guesses that are wrong by 0.5 to 2 between models and by up to 5 between cards. `deadly`: as
`rough`, but every task kills its worker with a chance of 2 %, which is noticed a minute later (a
task lost near the end of a short job costs that minute). `four jobs`: as `mixed`, each model the
job of another submitter. `fleet of 10k`: 10,000 workers, 20 jobs with 1,000 groups. `studio`: jobs
that arrive one after another, CPUs among the workers, which explains how much is used.

| scenario | images | workers | bound | ratio | worst | limit | used | loads | claims | wait | loop | decision |
| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |"""  # noqa: E501


def row(found: Summary, scenario: Scenario) -> str:
    """One line of the table."""
    limit = f"{scenario.expect.makespan:.2f}" if scenario.expect.makespan else ""
    cells = [
        found.scenario,
        f"{found.images:,}",
        f"{found.workers:,}",
        f"{found.bound:,.0f} s",
        f"**{found.ratio:.3f}**",
        f"{found.worst_ratio:.3f}",
        limit,
        f"{found.utilisation:.1%}",
        f"{found.loads_per_worker:.2f}",
        f"{found.claims:,.0f}",
        f"{found.ticket_wait:.2f} s",
        f"{found.loop_cores:.2%}",
        f"{found.claim_milliseconds:.2f} ms",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table, or the rows of the scenarios that are named."""
    names = sys.argv[1:] or sorted(path.stem for path in SCENARIOS.glob("*.yaml"))
    print(HEAD)
    for name in names:
        scenario = read_scenario(SCENARIOS / f"{name}.yaml")
        seeds = range(1, FEW_SEEDS.get(name, SEEDS) + 1)
        found = summary(scenario.name, [simulate(scenario, seed) for seed in seeds])
        print(row(found, scenario), flush=True)


if __name__ == "__main__":
    main()
