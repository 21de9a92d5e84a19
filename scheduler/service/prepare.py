"""Reading and checking a whole manifest before anything is written."""

from __future__ import annotations

import errno
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from scheduler import estimate
from scheduler.manifest.expansion import Expander, Rules
from scheduler.manifest.grouping import Describe, Group, GroupTable
from scheduler.manifest.jobfile import ItemsReader, JobFile, manifest_path, read_job_file
from scheduler.manifest.limits import Limits
from scheduler.manifest.problems import FieldError, ManifestProblems, Problems, Rejected
from scheduler.manifest.readers.base import Reader
from scheduler.manifest.source import JOB_FORMAT, STDIN, format_of, opened, reader_for, shown_path
from scheduler.manifest.spool import CountingSink, ItemSpool
from scheduler.service.adapters import settled
from scheduler.service.companions import Beside
from scheduler.service.intake import Intake
from scheduler.service.options import SubmitOptions, canonical_settings, rules_of
from scheduler.service.output import output_of, refuse_unfit
from scheduler.service.references import Sources
from scheduler.service.spooling import PictureSpool
from storage.contract.capability import Requirements
from storage.contract.errors import InputError, StoreFull
from storage.contract.items import COMPILE_AUTO, COMPILED, NEVER
from storage.contract.keys import job_name_from
from storage.contract.output import OutputOptions
from storage.db.jobs import NewGroup


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A manifest that passed all checks."""

    name: str | None  #: as the user or the job file named it
    suggested_name: str
    digest: str
    settings: str
    output: OutputOptions
    priority: int
    rows: int
    items: int
    groups: list[NewGroup]
    problems: Problems
    tag_names: tuple[str, ...]
    notes: tuple[str, ...]
    sink: ItemSpool | CountingSink
    pictures: PictureSpool  #: that items are made from
    rejected: IO[bytes] | None  #: JSON lines of `Rejected`


_FILES_AND_URLS: Final = Sources()


@contextmanager
def prepared(
    options: SubmitOptions,
    *,
    limits: Limits,
    describe: Describe,
    dry_run: bool = False,
    sources: Sources = _FILES_AND_URLS,
) -> Iterator[Prepared]:
    """Read and check the manifest; raises `ManifestProblems` or another `InputError`.

    Items lie in temporary files until the block ends. With `dry_run` they are only counted, and
    of pictures only the headers are read. `sources` says where pictures may be taken from.
    """
    with ExitStack() as resources, _disk_errors():
        yield _Preparation(options, limits, resources, sources, dry_run=dry_run).read(describe)


class _Preparation:
    """One manifest being read; what it opens is closed with `resources`."""

    def __init__(
        self,
        options: SubmitOptions,
        limits: Limits,
        resources: ExitStack,
        sources: Sources,
        *,
        dry_run: bool,
    ) -> None:
        self._sources = sources
        self._dry_run = dry_run
        self._options = options
        self._rows_file = options.manifest
        self._limits = limits
        self._resources = resources
        self._rejected: IO[bytes] | None = None
        if options.skip_invalid:
            self._rejected = resources.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._sink: ItemSpool | CountingSink = CountingSink() if dry_run else ItemSpool()
        if isinstance(self._sink, ItemSpool):
            resources.callback(self._sink.close)
        self._problems = Problems(_shown(options.manifest), on_rejected=_recorder(self._rejected))

    def read(self, describe: Describe) -> Prepared:
        options, problems = self._options, self._problems
        job, reader, job_digest = self._open()
        rules = self._rules(job)
        output = self._output(job)
        table = GroupTable(
            describe,
            default_model=options.model,
            dtype=options.dtype,
            limits=self._limits,
            settle=settled,
        )
        pictures = self._intake()
        expander = Expander(rules, table, self._sink, problems, pictures=pictures)
        expander.read(reader)
        self._refuse_if_bad(expander)
        refuse_unfit(output, (group.card for group in table.groups))
        settings = canonical_settings(options, rules, output)
        own_priority = options.priority
        return Prepared(
            name=job.name if options.name is None else options.name,
            suggested_name=job_name_from(job.name or _stem(options.manifest)),
            digest=_digest(job_digest, reader.digest, settings, *pictures.digests),
            settings=settings,
            output=output,
            priority=(job.priority or 0) if own_priority is None else own_priority,
            rows=expander.rows,
            items=expander.items,
            groups=_settle(table.groups, self._sink.counts, options, Beside(describe)),
            problems=problems,
            tag_names=tuple(sorted(expander.tag_names)),
            notes=tuple(reader.notes),
            sink=self._sink,
            pictures=pictures.spool,
            rejected=self._rejected,
        )

    def _intake(self) -> Intake:
        """Takes in pictures, named relative to the file that holds the rows."""
        base = Path() if self._rows_file == STDIN else Path(self._rows_file).parent
        intake = Intake(self._sources, base, self._limits, headers_only=self._dry_run)
        self._resources.callback(intake.close)
        return intake

    def _open(self) -> tuple[JobFile, Reader, str]:
        """The job file (an empty one for a bare manifest), the reader, the job file's hash."""
        path = self._options.manifest
        kind = format_of(path, self._options.format)
        stream = self._resources.enter_context(opened(path))
        if kind != JOB_FORMAT:
            return JobFile(items=[]), self._reader(path, kind, stream), ""
        job, lines, digest = read_job_file(
            stream, self._problems, max_bytes=self._limits.max_job_file_bytes
        )
        if job.items is not None:
            return job, ItemsReader(job.items, lines), digest
        inner = str(manifest_path(Path(path), str(job.manifest)))
        kind = format_of(inner, None)
        if kind == JOB_FORMAT:
            raise InputError(f"{path}: manifest: a job file cannot name another one")
        self._problems.file = self._rows_file = inner
        stream = self._resources.enter_context(opened(inner))
        return job, self._reader(inner, kind, stream), digest

    def _reader(self, path: str, kind: str, stream: Any) -> Reader:
        return reader_for(
            path, kind, stream, self._problems, max_row_bytes=self._limits.max_row_bytes
        )

    def _rules(self, job: JobFile) -> Rules:
        try:
            return rules_of(self._options, job, self._limits)
        except FieldError as error:
            raise self._refused(error) from None

    def _output(self, job: JobFile) -> OutputOptions:
        try:
            return output_of(self._options.output, job.output)
        except FieldError as error:
            raise self._refused(error) from None

    def _refused(self, error: FieldError) -> ManifestProblems:
        self._problems.file = _shown(self._options.manifest)
        self._problems.add(None, error.field, error.message)
        return self._problems.refused()

    def _refuse_if_bad(self, expander: Expander) -> None:
        if self._problems.total and not self._options.skip_invalid:
            hint = "mend them, or render the other rows with --skip-invalid"
            raise self._problems.refused(hint=hint if expander.items else None)
        if not expander.items:
            raise self._problems.fatal("has no row to render" if expander.rows else "is empty")


def _settle(
    groups: Sequence[Group], counts: Sequence[int], options: SubmitOptions, companions: Beside
) -> list[NewGroup]:
    """Number the items through all groups, and fix each group's batches and requirements."""
    settled = []
    needs: dict[str, Requirements] = {}
    first = 0
    for group, count in zip(groups, counts, strict=False):
        if not count:
            continue  # all its rows were refused for another reason
        spec = group.spec
        shape = options.batch or estimate.batch_shape(
            group.card, spec.width, spec.height, count, on_cpu=options.on_cpu
        )
        spec = msgspec.structs.replace(spec, batch=shape)
        key = spec.profile_key
        if key not in needs:  # a sweep has thousands of groups, and few kinds of them
            needs[key] = estimate.requirements(group.card, spec, companions.of(spec))
        if spec.compile == COMPILE_AUTO:
            repaid = estimate.repays_compiling(needs[key], count, on_cpu=options.on_cpu)
            spec = msgspec.structs.replace(spec, compile=COMPILED if repaid else NEVER)
        settled.append(
            NewGroup(spec=spec, requirements=needs[key], first_item=first, stop_item=first + count)
        )
        first += count
    return settled


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _recorder(file: IO[bytes] | None) -> Callable[[Rejected], None] | None:
    if file is None:
        return None
    encode = msgspec.json.Encoder().encode

    def record(rejected: Rejected) -> None:
        file.write(encode(msgspec.structs.asdict(rejected)) + b"\n")

    return record


def _stem(manifest: str) -> str:
    return "stdin" if manifest == STDIN else Path(manifest).stem


def _shown(manifest: str) -> str:
    return "standard input" if manifest == STDIN else shown_path(manifest)


@contextmanager
def _disk_errors() -> Iterator[None]:
    """A full disk under the temporary files, in words."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreFull(
            f"no space left for temporary files in {tempfile.gettempdir()}",
            hint="free some space, or name another folder in TMPDIR; nothing was written",
        ) from error
