"""What a simulation showed, and the medians over several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec


class JobOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One job: seconds from its submission."""

    name: str
    first_claim: float | None
    ended: float | None
    deadline_met: bool | None = None  #: None: it had none


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One simulation. All but the CPU times follow from scenario and seed."""

    seed: int
    bound: float
    makespan: float
    images: int
    workers: int
    claims: int
    declined: int
    loads: int  #: models loaded, the first of each worker included
    deaths: int
    busy: float  #: worker seconds spent rendering
    ticket_wait: float  #: seconds an idle worker waited for its ticket, 99 of 100 less
    jobs: tuple[JobOutcome, ...]
    stalled: tuple[str, ...] = ()  #: why it never ended
    loop_cpu: float = 0.0  #: CPU seconds of this machine in the ticket rules
    claim_cpu: float = 0.0  #: CPU seconds in `choose`

    @property
    def ratio(self) -> float:
        """Makespan over the fluid bound."""
        return self.makespan / self.bound

    @property
    def utilisation(self) -> float:
        """Share of the workers' time that was rendering."""
        return self.busy / (self.makespan * self.workers)

    @property
    def loads_per_worker(self) -> float:
        """Models loaded per worker; one is the least."""
        return self.loads / self.workers

    @property
    def loop_cores(self) -> float:
        """CPU seconds of the ticket rules per simulated second."""
        return self.loop_cpu / self.makespan

    @property
    def claim_milliseconds(self) -> float:
        """CPU time of one decision, on average."""
        return 1000 * self.claim_cpu / max(1, self.claims + self.declined)


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Medians over the seeds of one scenario, and the worst of its makespans."""

    scenario: str
    seeds: int
    images: int
    workers: int
    bound: float
    ratio: float
    worst_ratio: float
    utilisation: float
    loads_per_worker: float
    claims: float
    declined: float
    deaths: float
    ticket_wait: float
    loop_cores: float
    claim_milliseconds: float
    stalled: tuple[str, ...] = ()


def summary(scenario: str, runs: Sequence[Outcome]) -> Summary:
    """The medians of some runs of one scenario."""
    return Summary(
        scenario=scenario,
        seeds=len(runs),
        images=runs[0].images,
        workers=runs[0].workers,
        bound=median(one.bound for one in runs),
        ratio=median(one.ratio for one in runs),
        worst_ratio=max(one.ratio for one in runs),
        utilisation=median(one.utilisation for one in runs),
        loads_per_worker=median(one.loads_per_worker for one in runs),
        claims=median(one.claims for one in runs),
        declined=median(one.declined for one in runs),
        deaths=median(one.deaths for one in runs),
        ticket_wait=median(one.ticket_wait for one in runs),
        loop_cores=median(one.loop_cores for one in runs),
        claim_milliseconds=median(one.claim_milliseconds for one in runs),
        stalled=next((one.stalled for one in runs if one.stalled), ()),
    )
