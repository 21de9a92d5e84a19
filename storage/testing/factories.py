"""Contract values for tests. Every factory takes overrides by field name."""

from __future__ import annotations

from typing import Any

import msgspec

from storage.contract.capability import Capability, Mode, ModeNeed, Requirements
from storage.contract.claims import Claim, ClaimedTask, OpenGroup
from storage.contract.items import BatchShape, GroupSpec, Item
from storage.contract.models import ModelCard
from storage.contract.outcomes import Failure, Outcome, Reason
from storage.contract.shards import pack
from storage.db import cutting, jobs, tasks, workers
from storage.db.engine import Ledger
from storage.db.images import ImageRow
from storage.ports import ObjectStore


class FakeClock:
    """A clock that moves when told."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def make_item(number: int = 0, **overrides: Any) -> Item:
    """An item whose prompt and seed follow from its number."""
    values: dict[str, Any] = {
        "row": number,
        "line": number + 1,
        "image_no": 0,
        "prompt": f"prompt {number}",
        "negative_prompt": "",
        "seed": number,
        "tags": {},
    }
    return Item(**(values | overrides))


def make_spec(**overrides: Any) -> GroupSpec:
    """A small text-to-image group; `denoise` sets the batch size alone."""
    denoise = overrides.pop("denoise", 4)
    values: dict[str, Any] = {
        "model": "starter",
        "width": 64,
        "height": 64,
        "num_inference_steps": 2,
        "guidance_scale": 4.0,
        "scheduler": "ddim",
        "batch": BatchShape(encode=8, denoise=denoise, decode=denoise),
    }
    return GroupSpec(**(values | overrides))


def make_requirements(cpu_bytes: int = 1 << 20, **gpu_bytes: int) -> Requirements:
    """Needs of a CPU, and of a GPU by mode (``resident=...``)."""
    gpu = [ModeNeed(mode=Mode(name), memory_bytes=needed) for name, needed in gpu_bytes.items()]
    cpu = ModeNeed(mode=Mode.CPU, memory_bytes=cpu_bytes)
    return Requirements(modes=(*gpu, cpu), tflop_per_image=0.001)


def make_capability(**overrides: Any) -> Capability:
    """A CPU with one thread and 8 GiB."""
    values: dict[str, Any] = {
        "device": "cpu",
        "kind": "cpu/1",
        "name": "test CPU",
        "ram_bytes": 8 << 30,
        "host": "testhost",
    }
    return Capability(**(values | overrides))


def make_card(**overrides: Any) -> ModelCard:
    """The card of a small Stable Diffusion model."""
    values: dict[str, Any] = {
        "model": "starter",
        "revision": None,
        "path": None,
        "pipeline": "StableDiffusionPipeline",
        "width": 64,
        "height": 64,
        "num_inference_steps": 20,
        "guidance_scale": 4.0,
        "scheduler": "DDIMScheduler",
        "parameters": {"text_encoder": 1_000_000, "unet": 3_000_000, "vae": 1_000_000},
        "weight_bytes": 10_000_000,
        "token_limit": 77,
    }
    return ModelCard(**(values | overrides))


def make_open_group(**overrides: Any) -> OpenGroup:
    """A group with a hundred items to claim."""
    values: dict[str, Any] = {
        "group_id": 1,
        "job_id": 1,
        "model": "starter",
        "priority": 0,
        "claimable": 100,
        "batch_size": 4,
        "requirements": make_requirements(),
        "profile_key": "starter 64x64",
    }
    return OpenGroup(**(values | overrides))


def make_failure(**overrides: Any) -> Failure:
    """An attempt that raised."""
    values: dict[str, Any] = {"reason": Reason.ERROR, "detail": "boom", "worker_id": 1, "at": 1.0}
    return Failure(**(values | overrides))


def make_image_row(task: ClaimedTask, item: int, **overrides: Any) -> ImageRow:
    """The row of a rendered item of `task`."""
    spec = task.spec
    values: dict[str, Any] = dict.fromkeys(ImageRow.__struct_fields__) | {
        "job_id": task.job_id,
        "item": item,
        "group_id": task.group_id,
        "task_id": task.task_id,
        "worker_id": 1,
        "outcome": Outcome.RENDERED,
        "row": item,
        "line": item + 1,
        "image_no": 0,
        "prompt": f"prompt {item}",
        "negative_prompt": "",
        "seed": item,
        "model": spec.model,
        "width": spec.width,
        "height": spec.height,
        "num_inference_steps": spec.num_inference_steps,
        "guidance_scale": spec.guidance_scale,
        "scheduler": spec.scheduler,
        "tags": "{}",
        "object_key": f"renders/{task.job_name}/{item}.png",
        "bytes": 100,
        "truncated_tokens": 0,
        "seconds": 0.1,
        "created_at": 1.0,
    }
    return ImageRow(**(values | overrides))


def add_job(
    ledger: Ledger,
    store: ObjectStore,
    items: list[Item] | None = None,
    *,
    spec: GroupSpec | None = None,
    name: str = "job",
    priority: int = 0,
    requirements: Requirements | None = None,
) -> jobs.Job:
    """Submit a job of one group, with its items in one shard."""
    items = [make_item(number) for number in range(8)] if items is None else items
    key = f"jobs/{name}/items"
    store.put(key, pack([msgspec.msgpack.encode(item) for item in items], len(items)))
    new = jobs.NewJob(
        name=name,
        digest=f"digest of {name}",
        token=name,
        manifest=f"{name}.jsonl",
        settings="{}",
        priority=priority,
        item_count=len(items),
    )
    group = jobs.NewGroup(
        spec=spec or make_spec(),
        requirements=requirements or make_requirements(),
        first_item=0,
        stop_item=len(items),
    )
    shard = jobs.NewShard(first_item=0, item_count=len(items), object_key=key)
    with ledger.write() as connection:
        return jobs.get(connection, jobs.create(connection, new, [group], [shard], now=1.0))


def add_worker(
    ledger: Ledger, capability: Capability | None = None, *, pid: int = 1, now: float = 1.0
) -> int:
    """Register a worker; returns its id."""
    with ledger.write() as connection:
        return workers.register(
            connection,
            capability or make_capability(),
            name=f"testhost/cpu#{pid}",
            pid=pid,
            process_started_at=1.0,
            now=now,
        )


def ref_of(task: ClaimedTask) -> tasks.TaskRef:
    """The right to a task, as its worker presents it."""
    return tasks.TaskRef(task.task_id, task.lease)


def add_groups(ledger: Ledger, *sizes: tuple[int, int], name: str = "job") -> jobs.Job:
    """Submit a job with one group after the other, each of (items, batch size); no shards."""
    new_groups: list[jobs.NewGroup] = []
    first = 0
    for length, batch_size in sizes:
        new_groups.append(
            jobs.NewGroup(
                spec=make_spec(denoise=batch_size, guidance_scale=float(len(new_groups))),
                requirements=make_requirements(),
                first_item=first,
                stop_item=first + length,
            )
        )
        first += length
    new = jobs.NewJob(
        name=name,
        digest=f"digest of {name}",
        token=name,
        manifest=f"{name}.jsonl",
        settings="{}",
        item_count=first,
    )
    with ledger.write() as connection:
        return jobs.get(connection, jobs.create(connection, new, new_groups, [], now=1.0))


def cut_task(
    ledger: Ledger,
    worker_id: int,
    *,
    items: int = 4,
    group_id: int = 1,
    lease: int = 7,
    now: float = 1.0,
) -> ClaimedTask | None:
    """Claim from that group, whatever the policy would say; the lease lasts a minute."""
    claim = Claim(group_id=group_id, items=items, mode=Mode.CPU)
    with ledger.write() as connection:
        mine = cutting.Lease(worker_id=worker_id, token=lease, seconds=60.0)
        return cutting.cut(connection, claim, mine, now=now)
