"""Rendering an image again from what is known of it, and comparing.

It is rendered here, in a home of its own that is gone afterwards, so neither the catalog nor a
farm sees anything of it: the same row, seed, batch shape and dtype, by this machine's device.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from scheduler.manifest.limits import Limits
from scheduler.service.options import SubmitOptions
from scheduler.service.prepare import prepared
from scheduler.service.references import Sources
from scheduler.service.submit import submit
from storage.contract.errors import InputError, NotFoundError
from storage.contract.items import IMPORTED, BatchShape
from storage.contract.keys import image_id, parse_image_id
from storage.contract.output import ImageFormat
from storage.contract.record import item_fields
from storage.contract.shards import unpack
from storage.db import groups, images, jobs, shards
from storage.db.images import ImageRow
from storage.db.jobs import Job
from storage.embedded.read import read_embedded
from storage.models.resolve import describe
from storage.opening import Mill, open_mill
from storage.ports import ObjectStore
from storage.settings import Connections

_FORMATS: Final = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "AVIF": "avif"}


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """An image that was rendered, and all that is known of how."""

    name: str  #: as the user may call it: ``shapes/12``, or a file
    picture: bytes  #: its file
    row: dict[str, Any]  #: a manifest row
    batch: BatchShape
    dtype: str
    rendering: dict[str, Any]  #: how its pixels came to be
    output: dict[str, Any]  #: what changed the pixels after rendering, and the file's format
    inputs: dict[str, bytes] = {}  #: the pictures it was made from, by key


def original_in_catalog(mill: Mill, name: str) -> Original:
    """The image of that name (``JOB/ITEM``), from the catalog: its file may say nothing."""
    try:
        job_name, number = parse_image_id(name)
    except ValueError as error:
        raise InputError(f"{error}, and there is no file of that name") from None
    with mill.ledger.read() as connection:
        row = images.get(connection, job_name, number)
        job = jobs.get(connection, row.job_id)
        spec = groups.get(connection, row.group_id).spec
        shard = shards.covering(connection, row.job_id, number, number + 1)
    if spec.kind == IMPORTED:
        raise InputError(
            f"{name} was imported, not rendered here",
            hint="a picture that this program made is rendered again by its file",
        )
    if row.object_key is None or row.rendering is None:
        raise InputError(f"{name} was not rendered: {row.reason}", hint=row.detail)
    first, key = shard[0]
    item = unpack(mill.store.get(key), key=key)[number - first]
    rendering = msgspec.json.decode(row.rendering, type=dict[str, Any])
    return Original(
        name=image_id(job_name, number),
        picture=mill.store.get(row.object_key),
        row=item_fields(item, spec),
        batch=_batch(rendering, spec.batch),
        dtype=str(rendering.get("dtype", "auto")),
        rendering=rendering,
        output=_output_of(job, row),
        inputs={key: mill.store.get(key) for key in item.pictures},
    )


def original_in_file(path: Path, store: ObjectStore | None = None) -> Original:
    """The image in a file that says how it was made; `store` is where its inputs may lie."""
    data = path.read_bytes()
    try:
        found = read_embedded(data)
        record = msgspec.convert(found.record or {}, _Record)
    except (InputError, msgspec.ValidationError) as error:
        said = error.message if isinstance(error, InputError) else f"its metadata: {error}"
        raise InputError(f"{path}: {said}") from error
    if not record.item:
        raise InputError(
            f"{path} does not say how it was made",
            hint="its metadata was left out or lost; if it is in the catalog, name it as JOB/ITEM",
        )
    return Original(
        name=str(path),
        picture=data,
        row=record.item,
        batch=_batch(record.rendering, record.batch),
        dtype=str(record.rendering.get("dtype", "auto")),
        rendering=record.rendering,
        output={"format": _FORMATS[found.format]} | _shown(record.output),
        inputs=_inputs(record.item, path, store),
    )


class _Record(msgspec.Struct):
    """What is read of a file's own record."""

    item: dict[str, Any] = {}
    batch: BatchShape = BatchShape()
    rendering: dict[str, Any] = {}
    output: dict[str, Any] = {}  #: the job's options of files, where they are not the usual


@contextmanager
def rendered_apart(
    original: Original, *, limits: Limits, on_cpu: bool
) -> Iterator[tuple[Mill, Job]]:
    """A home of its own with one job of one image, still to be rendered."""
    with tempfile.TemporaryDirectory(prefix="rendermill-") as folder:
        manifest = Path(folder) / "again.jsonl"
        manifest.write_text(json.dumps(original.row, ensure_ascii=False) + "\n", encoding="utf-8")
        options = SubmitOptions(
            manifest=str(manifest),
            name="again",
            overrides={"dtype": original.dtype},
            batch=original.batch,
            output=original.output | {"metadata": "full", "thumbnails": False},
            on_cpu=on_cpu,
        )
        connections = Connections(home=Path(folder) / "home")
        with open_mill(connections, create=True) as mill:
            for key, data in original.inputs.items():
                mill.store.put(key, data)
            sources = Sources(urls=False, open_mill=lambda: open_mill(connections))
            with prepared(options, limits=limits, describe=describe, sources=sources) as work:
                job = submit(work, str(manifest), ledger=mill.ledger, store=mill.store).job
            if "tiled" in original.rendering.get("steps_down", ()):
                _begin_tiled(mill, job)
            yield mill, job


def result_of(mill: Mill, job: Job) -> Original:
    """What was rendered; `InputError` with the reason if nothing was."""
    return original_in_catalog(mill, image_id(job.name, 0))


def _batch(rendering: Mapping[str, Any], shape: BatchShape) -> BatchShape:
    """The shape the pixels came from: the group's, unless memory forced a smaller one.

    Steps down are words like ``batch 2`` and ``decode 1``; those of a second stage are left out.
    """
    shape = msgspec.structs.replace(shape, denoise=int(rendering.get("batch", shape.denoise)))
    shape = msgspec.structs.replace(shape, decode=min(shape.decode, shape.denoise))
    for step in rendering.get("steps_down", ()):
        name, _, size = str(step).partition(" ")
        if name in ("encode", "decode") and size.isdigit():
            shape = msgspec.structs.replace(shape, **{name: int(size)})
    return shape


def _begin_tiled(mill: Mill, job: Job) -> None:
    """Have the job's only group claimed with its pictures decoded in tiles, in any mode."""
    with mill.ledger.write() as connection:
        (group,) = groups.of_job(connection, job.id, limit=1)
        whole = [need for need in group.requirements.modes if not need.batch and not need.tiled]
        tiled = tuple(msgspec.structs.replace(need, tiled=True) for need in whole)
        groups.require(
            connection, group.id, msgspec.structs.replace(group.requirements, modes=tiled)
        )


def _output_of(job: Job, row: ImageRow) -> dict[str, Any]:
    """The job's options that show in pixels; a safety checker's work cannot be undone."""
    options = json.loads(job.output) if job.output else {}
    return {"format": ImageFormat.PNG.value} | _shown(options)


def _shown(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in _PIXEL_OPTIONS if name in options}


_PIXEL_OPTIONS: Final = ("format", "quality", "watermark", "safety", "safety_model")


def _inputs(row: Mapping[str, Any], path: Path, store: ObjectStore | None) -> dict[str, bytes]:
    """Pictures the row names by key, from the store."""
    named = [row.get("image"), row.get("mask_image"), row.get("ip_adapter_image")]
    controls = row.get("control_image") or []
    named += controls if isinstance(controls, list) else [controls]
    found = {}
    for key in named:
        if not isinstance(key, str) or not key.startswith("inputs/"):
            continue
        if store is None or store.size(key) is None:
            raise NotFoundError(
                f"{path} was made from {key}, which is not in this catalog's store",
                hint="run it where the image was rendered, with its --home or farm",
            )
        found[key] = store.get(key)
    return found
