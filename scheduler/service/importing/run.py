"""An import: files are read side by side, stored, and recorded some at a time, in their order."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
from PIL import Image

from scheduler.service.importing import jobs
from scheduler.service.importing.described import UNKNOWN_SEED, Described, some
from scheduler.service.importing.folders import pictures
from scheduler.service.importing.jobs import NOBODY, ImportJob
from scheduler.service.importing.reading import described
from storage.contract.errors import InputError
from storage.contract.keys import image_key, job_name_from, thumbnail_key
from storage.contract.outcomes import Outcome
from storage.contract.output import ImageFormat, Produced
from storage.db.images import ImageRow
from storage.hashes import perceptual_hash
from storage.objects.folder import FolderStore
from storage.opening import Mill
from storage.thumbnails import decoded, encode_thumbnail

AT_ONCE: Final = 32
"""Files that are held in memory together."""

_MOST_BYTES: Final = 256 << 20
_LARGEST_INT: Final = 2**31 - 1
_SILENT: Final = Described(program="")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What to import, and how."""

    folder: Path
    job: str | None = None  #: None: named after the folder
    link: bool = False  #: share the file instead of copying it
    skip_silent: bool = False  #: leave out pictures that say nothing of how they were made
    threads: int = 4


class Broken(msgspec.Struct, frozen=True):
    """A file that could not be imported."""

    file: str
    why: str


class Counts(msgspec.Struct, kw_only=True):
    """What came of the files."""

    imported: int = 0
    known: int = 0  #: the job had them already
    silent: int = 0  #: they say nothing of how they were made; imported all the same, or skipped
    broken: int = 0
    by_program: dict[str, int] = {}


class _Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it was read."""

    file: str
    data: bytes
    sha256: str
    about: Described
    picture: Image.Image
    form: ImageFormat
    made_at: float


def import_folder(
    mill: Mill,
    wanted: Wanted,
    *,
    told: Callable[[Counts], None] = lambda _counts: None,
    broken: Callable[[Broken], None] = lambda _broken: None,
) -> tuple[str, Counts]:
    """Import what is below the folder and not in its job yet; the job's name, and the counts.

    An import that was interrupted goes on after the file it came to. `told` hears after each
    batch how it stands, `broken` of each file that could not be read.
    """
    folder = wanted.folder.resolve()
    if not folder.is_dir():
        raise InputError(f"{wanted.folder} is no folder", hint="name the folder of the pictures")
    if wanted.link and not isinstance(mill.store, FolderStore):
        raise InputError("--link needs pictures kept in a folder", hint="leave it away to copy")
    job = jobs.open_job(mill.ledger, wanted.job or job_name_from(folder.name), folder)
    with ThreadPoolExecutor(wanted.threads) as pool:
        importer = _Importer(mill, wanted, folder, job, pool)
        files = pictures(folder, job.reached)
        while batch := list(islice(files, AT_ONCE)):
            for one in importer.take(batch):
                broken(one)
            told(importer.counts)
    importer.finish()
    return job.name, importer.counts


class _Importer:
    """Imports some files after the other."""

    def __init__(
        self, mill: Mill, wanted: Wanted, folder: Path, job: ImportJob, pool: Executor
    ) -> None:
        self.counts = Counts()
        self._mill = mill
        self._wanted = wanted
        self._folder = folder
        self._job = job
        self._pool = pool
        self._known = jobs.known_digests(mill.ledger, job)

    def take(self, files: list[str]) -> list[Broken]:
        """Read, store and record these files; those that could not be read."""
        read = list(self._pool.map(lambda file: _read(self._folder, file), files))
        new = list(self._new(one for one in read if isinstance(one, _Taken)))
        first = self._job.items
        rows = list(self._pool.map(self._store, range(first, first + len(new)), new))
        self._job = jobs.add(self._mill.ledger, self._job, rows, files[-1])
        broken = [one for one in read if isinstance(one, Broken)]
        self.counts.imported += len(rows)
        self.counts.broken += len(broken)
        return broken

    def finish(self) -> None:
        """The next import begins with the first file again."""
        jobs.add(self._mill.ledger, self._job, [], "")

    def _new(self, read: Iterable[_Taken]) -> Iterator[_Taken]:
        """Those that are to be recorded, each content once."""
        counts = self.counts
        for one in read:
            digest = jobs.short(one.sha256)
            if digest in self._known:
                counts.known += 1
                continue
            silent = one.about is _SILENT
            counts.silent += silent
            if silent and self._wanted.skip_silent:
                continue
            self._known.add(digest)
            program = one.about.program or "unknown"
            counts.by_program[program] = counts.by_program.get(program, 0) + 1
            yield one

    def _store(self, item: int, one: _Taken) -> ImageRow:
        """Keep a picture and its thumbnail; its row."""
        import numpy as np

        store, job = self._mill.store, self._job
        key = image_key(job.name, item, one.form.extension)
        small = thumbnail_key(job.name, item)
        if self._wanted.link and isinstance(store, FolderStore):
            _link(self._folder / one.file, store.root / key)
        else:
            store.put(key, one.data)
        store.put(small, encode_thumbnail(one.picture), durable=False)
        return msgspec.structs.replace(
            _row(job, item, one),
            object_key=key,
            thumbnail_key=small,
            phash=perceptual_hash(np.asarray(one.picture)),
        )


def _read(folder: Path, file: str) -> _Taken | Broken:
    try:
        path = folder / file
        about = path.stat()
        if about.st_size > _MOST_BYTES:
            return Broken(file, f"has {about.st_size:,} bytes; at most {_MOST_BYTES:,} are read")
        data = path.read_bytes()
        return _Taken(
            file=file.encode(errors="replace").decode(),
            data=data,
            sha256=hashlib.sha256(data).hexdigest(),
            about=described(data, path) or _SILENT,
            picture=decoded(data),
            form=_format(data),
            made_at=about.st_mtime,
        )
    except OSError as error:
        return Broken(file, f"cannot be read: {error.strerror}")
    except InputError as error:
        return Broken(file, error.message)


def _format(data: bytes) -> ImageFormat:
    """By its first bytes: names may lie."""
    if data.startswith(b"\x89PNG"):
        return ImageFormat.PNG
    if data.startswith(b"\xff\xd8"):
        return ImageFormat.JPEG
    return ImageFormat.WEBP if data[8:12] == b"WEBP" else ImageFormat.AVIF


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # of an import that was interrupted
    try:
        os.link(source, target)
    except OSError as error:
        far = error.errno == errno.EXDEV
        raise InputError(
            f"{source} cannot be linked: {'it is on another disk' if far else error.strerror}",
            hint="leave --link away to copy",
        ) from error


def _row(job: ImportJob, item: int, one: _Taken) -> ImageRow:
    about = one.about
    tags = about.tags | some({"program": about.program, "file": one.file})
    produced = None
    if one.form is not ImageFormat.PNG:
        produced = msgspec.json.encode(Produced(format=one.form)).decode()
    steps = about.steps if about.steps is not None and 0 <= about.steps <= _LARGEST_INT else 0
    values = dict.fromkeys(ImageRow.__struct_fields__) | {
        "job_id": job.id,
        "item": item,
        "group_id": job.group_id,
        "task_id": NOBODY,
        "worker_id": NOBODY,
        "outcome": Outcome.RENDERED.value,
        "row": item,
        "line": item + 1,
        "image_no": 0,
        "prompt": about.prompt,
        "negative_prompt": about.negative_prompt,
        "seed": UNKNOWN_SEED if about.seed is None else about.seed,
        "model": about.model,
        "revision": about.revision,
        "width": one.picture.width,
        "height": one.picture.height,
        "num_inference_steps": steps,
        "guidance_scale": about.cfg or 0.0,
        "scheduler": about.sampler,
        "tags": msgspec.json.encode(tags).decode(),
        "bytes": len(one.data),
        "sha256": one.sha256,
        "render_key": about.render_key,
        "rendering": about.rendering,
        "truncated_tokens": 0,
        "created_at": one.made_at,
        "produced": produced,
    }
    return msgspec.convert(values, ImageRow)
