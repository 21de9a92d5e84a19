"""What is simulated: models, workers, jobs and faults, read from a small YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from storage.contract.capability import Mode
from storage.contract.errors import InputError

MAX_BYTES: Final = 1 << 20

_Name = Annotated[str, Field(min_length=1, max_length=100)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSpec(_Part):
    """A model: what it needs and how long it takes on a device of speed 1."""

    gib: Annotated[dict[Mode, _Positive], Field(min_length=1)]  #: memory by mode
    seconds: _Positive  #: per image, on a device of speed 1 in the fastest mode
    load_seconds: _Seconds = 25.0
    disk_gib: _Seconds | None = None  #: of its files; as large as its first mode if not said
    guess: _Positive = 1.0  #: what is guessed before measuring, over what it takes at speed 1


class WorkerSpec(_Part):
    """Workers of one kind."""

    kind: _Name
    count: Annotated[int, Field(ge=1, le=1_000_000)]
    vram_gib: _Seconds  #: 0: CPUs
    ram_gib: _Positive = 64.0
    threads: Annotated[int, Field(ge=1)] = 1
    speed: _Positive = 1.0


class GroupsSpec(_Part):
    """Groups of one model in a job."""

    model: _Name
    items: Annotated[int, Field(ge=1)]  #: of each group
    batch: Annotated[int, Field(ge=1, le=64)] = 1
    copies: Annotated[int, Field(ge=1, le=100_000)] = 1  #: how many such groups


class JobSpec(_Part):
    """One job and when it is submitted."""

    name: _Name
    at: _Seconds = 0.0
    submitter: str = ""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    deadline: _Positive | None = None  #: seconds after it was submitted
    cpu: Literal["auto", "never", "only"] = "auto"
    groups: Annotated[list[GroupsSpec], Field(min_length=1)]


class Faults(_Part):
    """What goes wrong."""

    slow_share: _Share = 0.0  #: of the workers of each kind
    slow_speed: _Positive = 0.3  #: of their kind's
    death_share: _Share = 0.0  #: chance of each worker to die once within the ideal time
    deaths_per_task: _Share = 0.0  #: chance of each task to kill its worker
    detected_after: _Seconds = 60.0  #: from death to the return of the items
    restart_after: _Seconds = 30.0  #: from death to a new worker in its place


class Expect(_Part):
    """What the medians must not exceed; a test holds them."""

    makespan: _Positive | None = None  #: over the fluid bound
    loads: _Positive | None = None  #: models loaded, over the number of workers
    ticket_wait: _Positive | None = None  #: seconds, 99 of 100 claims
    loop_cores: _Positive | None = None  #: CPU seconds of the ticket loop a simulated second


class Scenario(_Part):
    """A whole simulation, but for its seed."""

    name: _Name
    models: Annotated[dict[_Name, ModelSpec], Field(min_length=1)]
    workers: Annotated[list[WorkerSpec], Field(min_length=1)]
    jobs: Annotated[list[JobSpec], Field(min_length=1)]
    noise: Annotated[float, Field(ge=0, le=0.5)] = 0.05  #: standard deviation of a task's time
    speeds_known: bool = True  #: profiles exist from earlier jobs
    slowdown: dict[Mode, _Positive] = {  # of the modes
        Mode.RESIDENT: 1.0,
        Mode.LEAN: 1.02,
        Mode.PHASED: 1.1,
        Mode.OFFLOAD: 2.5,
        Mode.CPU: 1.0,
        Mode.CPU_PHASED: 1.1,
    }
    tick_seconds: _Positive = 0.5  #: between two passes of the ticket loop
    claim_seconds: _Seconds = 0.02
    fleet_seconds: _Seconds = 5.0  #: how old a worker's knowledge of the fleet may be
    faults: Faults = Faults()
    expect: Expect = Expect()

    @model_validator(mode="after")
    def _consistent(self) -> Scenario:
        for job in self.jobs:
            for groups in job.groups:
                if groups.model not in self.models:
                    known = ", ".join(self.models)
                    raise ValueError(
                        f"job {job.name!r} names model {groups.model!r}; there are: {known}"
                    )
        for what, names in (
            ("job", [job.name for job in self.jobs]),
            ("kind of worker", [one.kind for one in self.workers]),
        ):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"there are two of {what} {twice!r}; give each its own name")
        return self


def read_scenario(path: Path) -> Scenario:
    """The checked scenario; raises `InputError` that names every fault."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: is larger than {MAX_BYTES} bytes; that is no scenario")
    try:
        tree = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: is not YAML: {error}") from error
    return checked(tree, str(path))


def checked(tree: Any, source: str) -> Scenario:
    """The scenario in a tree of plain values."""
    if not isinstance(tree, dict):
        raise InputError(
            f"{source}: must be a mapping", hint="see examples/scenarios for whole ones"
        )
    try:
        return Scenario.model_validate(tree)
    except ValidationError as error:
        faults = [_fault(fault["loc"], fault["msg"]) for fault in error.errors()]
        raise InputError(
            "\n".join(f"{source}: {fault}" for fault in faults),
            hint="see examples/scenarios for whole ones",
        ) from error


def _fault(place: tuple[int | str, ...], said: str) -> str:
    said = said.removeprefix("Value error, ")
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return f"{where.removeprefix('.')}: {said}" if where else said
