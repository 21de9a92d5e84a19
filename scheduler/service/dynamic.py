"""What was asked about dynamic prompts: a mode, and folders of wildcards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from scheduler.manifest.dynamic import DynamicPrompts, Mode
from scheduler.manifest.jobfile import JobFile, manifest_path
from scheduler.manifest.limits import Limits
from scheduler.manifest.problems import FieldError
from scheduler.manifest.wildcards import Wildcards

_OPTION: Final = "--dynamic-prompts"


def dynamic_of(
    mode: str | None,
    wildcards: Sequence[str],
    job: JobFile,
    job_file: str,
    *,
    seed: int,
    limits: Limits,
) -> DynamicPrompts | None:
    """How prompts are expanded; None where that was not asked for, braces being honest signs.

    `mode` and `wildcards` are what the options say, above what the job file says. Their folders
    are searched before those of the job file, which are named relative to it. Raises
    `FieldError` with the option or the job file's key as its field.
    """
    place = "dynamic_prompts" if mode is None else _OPTION
    mode = job.dynamic_prompts if mode is None else mode
    folders = list(_folders(wildcards, job, Path(job_file)))
    if mode is None:
        if folders:
            said = "are used by dynamic prompts only; say how: random or combinatorial"
            raise FieldError("--wildcards" if wildcards else "wildcards", said)
        return None
    if mode not in tuple(Mode):
        raise FieldError(place, f"must be {' or '.join(Mode)}, not {mode!r}")
    return DynamicPrompts(Mode(mode), Wildcards(folders, limits), seed=seed, limits=limits)


def _folders(own: Sequence[str], job: JobFile, job_file: Path) -> Iterator[Path]:
    beside = (str(manifest_path(job_file, name)) for name in job.wildcards)
    named = [*(("--wildcards", name) for name in own), *(("wildcards", name) for name in beside)]
    for place, name in named:
        try:
            there = Path(name).is_dir()
        except ValueError:  # a NUL character
            there = False
        if not there:
            raise FieldError(place, f"{name}: there is no such folder")
        yield Path(name)
