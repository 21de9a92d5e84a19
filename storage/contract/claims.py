"""What a claim is decided from, and the decision: plain values in, a plain value out."""

from __future__ import annotations

import msgspec

from storage.contract.capability import Capability, Mode, Requirements, Seen
from storage.contract.items import GroupSpec
from storage.contract.outcomes import Failure
from storage.contract.output import OutputOptions


class OpenGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A group with claimable items, as the claim policy sees it."""

    group_id: int
    job_id: int
    model: str
    priority: int  #: of its job; higher goes first
    claimable: int  #: items nobody holds and that have no outcome
    batch_size: int
    requirements: Requirements
    profile_key: str
    submitter: str = ""
    submitted_at: float = 0.0
    deadline_at: float | None = None  #: of its job
    cpu: str = "auto"  #: of its job: may CPUs take it ("auto", "never", "only")
    last_claimed_at: float | None = None  #: None: nothing of it was ever claimed
    leased: int = 0  #: items of the group under lease that have no outcome yet
    job_leases: int = 0  #: tasks of its job under lease now
    submitter_leases: int = 0  #: tasks of its submitter under lease now


class FleetPart(msgspec.Struct, frozen=True, kw_only=True):
    """Live workers of one kind and size, summed up; the claiming one is counted too."""

    kind: str
    vram_bytes: int  #: 0: CPUs
    ram_bytes: int
    count: int
    seconds_per_image: dict[str, float] = {}  #: measured on this kind, by profile key
    seen: dict[str, tuple[Seen, ...]] = {}  #: memory measured on this kind, by profile key
    tflops: float | None = None  #: measured arithmetic speed, for groups not yet measured
    threads: int = 1  #: CPU threads of each
    loaded: dict[str, int] = {}  #: how many of them have which model loaded, or claimed it last


class ClassFleet(msgspec.Struct, frozen=True, kw_only=True):
    """The live workers of one VRAM class: who waits at one queue."""

    parts: tuple[FleetPart, ...]
    idle: int = 0  #: how many of them hold no lease

    @property
    def live(self) -> int:
        """How many workers it has."""
        return sum(part.count for part in self.parts)


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """The claiming worker, as the policy sees it."""

    capability: Capability
    loaded_model: str | None = None  #: claiming the same again saves loading
    seconds_per_image: dict[str, float] = {}  #: measured on its kind, by profile key
    seen: dict[str, tuple[Seen, ...]] = {}  #: memory measured on its kind, by profile key
    room_bytes: int | None = None  #: of its device it could have now; None: all of it
    tflops: float | None = None  #: measured arithmetic speed, for groups not yet measured
    #: The same, by this very worker alone; None: not kept. It may be slower than its kind.
    own_seconds_per_image: dict[str, float] | None = None
    load_seconds: dict[str, float] = {}  #: measured, by model
    fleet: tuple[FleetPart, ...] = ()  #: all live workers; empty: it is alone
    more_groups: bool = False  #: there are more open groups than were read


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Take up to `items` items of this group, in this mode, from this rung of the ladder on."""

    group_id: int
    items: int
    mode: Mode
    also: tuple[int, ...] = ()  #: further groups of the job and model, small, to cut whole
    batch: int = 0  #: rung to begin at: images denoised at once; 0: the group's own batch
    tiled: bool = False  #: rung to begin at: pictures are decoded in tiles
    memory_bytes: int = 0  #: what that rung is expected to need


class Declined(msgspec.Struct, frozen=True, kw_only=True):
    """Take nothing, and why, one sentence per distinct reason."""

    reasons: tuple[str, ...] = ()


class ClaimedTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task cut for one worker, with all it needs to know to render it."""

    task_id: int
    lease: int  #: fencing token: only who presents it may commit
    job_id: int
    job_name: str
    group_id: int
    group_first_item: int  #: batches are counted from here
    first_item: int
    stop_item: int
    spec: GroupSpec
    mode: Mode
    lease_seconds: float  #: how long the lease lasts from each renewal on
    failures: tuple[Failure, ...] = ()  #: of earlier attempts at these items
    able: int = 1  #: live workers that could have rendered it, its own included
    batch: int = 0  #: rung to begin at: images denoised at once; 0: as the spec's batch says
    tiled: bool = False  #: rung to begin at: pictures are decoded in tiles
    memory_bytes: int = 0  #: what that rung is expected to need; 0: not known
    output: OutputOptions = OutputOptions()  #: of its job

    @property
    def items(self) -> int:
        """How many items it has."""
        return self.stop_item - self.first_item


class Rendering(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the pixels of one image came to be, beyond what its row says."""

    mode: str
    dtype: str
    device: str  #: kind of device
    batch: int  #: rows of the denoising batch
    weights: str  #: hash of the weights that were loaded
    versions: dict[str, str] = {}
    steps_down: tuple[str, ...] = ()  #: rungs of the memory ladder that were taken
    retried_in: str | None = None  #: dtype of the retry that gave a valid picture
    retried_phase: str | None = None  #: the only phase of it that was repeated; None: all
    loras: dict[str, str] = {}  #: hash of each by its label
    attention: str = ""  #: backend of scaled dot product attention
    compiled: bool = False  #: by torch.compile
    plain: bool = False  #: through the ordinary pipeline call
    lossy: tuple[str, ...] = ()  #: accelerations that were asked for


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is doing right now, for people."""

    phase: str = "idle"
    job: str | None = None
    task_id: int | None = None
    batch: int = 0  #: current batch of the task, from 1
    batches: int = 0
    step: int = 0  #: current denoising step, from 1
    steps: int = 0
    message: str | None = None
