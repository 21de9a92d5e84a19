"""``rendermill simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from scheduler.cli.console import JsonOption, duration, escaped, facts, out, print_json, table
from scheduler.simulate.outcome import Outcome, Summary, summary
from scheduler.simulate.run import simulate
from scheduler.simulate.scenario import read_scenario


class Simulated(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints."""

    summary: Summary
    runs: list[Outcome]


def simulate_command(
    scenario: Annotated[Path, typer.Argument(help="A scenario, such as examples/scenarios has.")],
    seeds: Annotated[
        int, typer.Option(min=1, max=1000, help="Repeat with so many seeds; medians are shown.")
    ] = 1,
    first_seed: Annotated[int, typer.Option("--seed", help="The first seed.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Try the claim policy on a fleet that you describe, under a virtual clock."""
    described = read_scenario(scenario)
    runs = [simulate(described, first_seed + number) for number in range(seeds)]
    found = summary(described.name, runs)
    if as_json:
        print_json(Simulated(summary=found, runs=runs))
    else:
        _show(found, runs)
    if found.stalled:
        raise typer.Exit(1)


def _show(found: Summary, runs: list[Outcome]) -> None:
    if found.stalled:
        out.print(f"[red]it never ends:[/] {escaped('; '.join(found.stalled))}", soft_wrap=True)
        out.print(_jobs_table(runs[0]))
        return
    out.print(
        facts(
            [
                ("scenario", f"{found.scenario}, {_seeds(runs)}"),
                ("work", f"{found.images:,} images on {found.workers:,} workers"),
                ("took", duration(found.bound * found.ratio)),
                ("fluid bound", duration(found.bound)),
                ("ratio", f"{found.ratio:.3f} (worst {found.worst_ratio:.3f})"),
                ("utilisation", f"{found.utilisation:.1%}"),
                ("loads", f"{found.loads_per_worker:.2f} a worker"),
                ("claims", f"{found.claims:,.0f}, and {found.declined:,.0f} looks for nothing"),
                ("deaths", f"{found.deaths:g}" if found.deaths else None),
                ("ticket wait", f"{found.ticket_wait:.2f} s for 99 of 100 claims"),
                ("CPU time", f"loop {found.loop_cores:.2%} of a core, {_milliseconds(found)}"),
            ]
        )
    )
    out.print()
    out.print(_jobs_table(runs[0]))


def _seeds(runs: list[Outcome]) -> str:
    return f"seed {runs[0].seed}" if len(runs) == 1 else f"medians of {len(runs)} seeds"


def _milliseconds(found: Summary) -> str:
    return f"a decision {found.claim_milliseconds:.2f} ms"


def _jobs_table(run: Outcome) -> object:
    shown = table("job", "began after", "took", "deadline", right=("began after", "took"))
    for job in run.jobs:
        shown.add_row(
            escaped(job.name),
            "never" if job.first_claim is None else duration(job.first_claim),
            "no end" if job.ended is None else duration(job.ended),
            {None: "", True: "met", False: "[red]missed[/]"}[job.deadline_met],
        )
    return shown
