"""Mending what a check found. Each step is safe to repeat, and leaves no picture worse off."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Final

import msgspec

from scheduler.service.checking import orphans, relinking
from scheduler.service.checking.findings import AGAIN, RENDERED_AGAIN, THUMBNAILS, Finding, Kind
from scheduler.service.importing.settings import folder_of
from storage.contract.errors import InputError, ObjectMissing
from storage.db import checks, images, jobs, putting_back
from storage.opening import Mill
from storage.thumbnails import decoded, encode_thumbnail

LOST: Final = "lost/"
_NO_SHARD: Final = "what it was rendered from is gone too"
_NO_FILE: Final = "it was imported, and its file is not there any more as it was"
_ORPHANS_AT_ONCE: Final = 100


def mend(mill: Mill, findings: Sequence[Finding], *, delete_orphans: bool) -> list[Finding]:
    """The same findings, with what was done about each."""
    done: list[Finding] = []
    for (kind, job_id), some in groupby(findings, lambda one: (_way(one), one.job_id)):
        its = list(some)
        if kind in RENDERED_AGAIN:
            done += _render_again(mill, job_id, its)
        elif kind in THUMBNAILS:
            done += [_thumbnail(mill, one) for one in its]
        elif kind is Kind.ORPHAN:
            done += _orphans(mill, its, delete=delete_orphans)
        else:
            done += [_job_gone(mill, one, delete=delete_orphans) for one in its]
    return done


def _way(finding: Finding) -> Kind:
    """Kinds that are mended alike."""
    for alike in (RENDERED_AGAIN, THUMBNAILS):
        if finding.kind in alike:
            return alike[0]
    return finding.kind


def _render_again(mill: Mill, job_id: int, findings: list[Finding]) -> list[Finding]:
    """Back to their groups, if what they are rendered from is there; imported ones from disk."""
    folder = _imported_from(mill, job_id)
    if folder is not None:
        return [_restore(mill, folder, one) for one in findings]
    if links := [one for one in findings if one.linked is not None and not one.mended]:
        done, alone = relinking.relink(mill, links)
        own = [one for one in findings if one.linked is None]
        return done + _render_again(mill, job_id, own + alone)
    able = [one for one in findings if _has_shard(mill, one)]
    taken: set[int] = set()
    if able:
        wanted = {one.item: one.sha256 for one in able if one.item is not None}
        with mill.ledger.write() as connection:
            now = mill.ledger.now()
            taken.update(putting_back.render_again(connection, job_id, wanted, now=now))
    ready = {one.item for one in able}
    return [
        _mended(one, AGAIN)
        if one.item in taken
        else _left(one, "it is being rendered" if one.item in ready else _NO_SHARD)
        for one in findings
    ]


def _has_shard(mill: Mill, finding: Finding) -> bool:
    with mill.ledger.read() as connection:
        key = checks.shard_of(connection, finding.job_id, finding.item or 0)
    return key is not None and mill.store.size(key) is not None


def _imported_from(mill: Mill, job_id: int) -> Path | None:
    with mill.ledger.read() as connection:
        return folder_of(jobs.get(connection, job_id).settings)


def _restore(mill: Mill, folder: Path, finding: Finding) -> Finding:
    """Take an imported picture from its file once more, if it is still the same."""
    with mill.ledger.read() as connection:
        row = next(images.of_items(connection, finding.job_id, [finding.item or 0]))
    file = msgspec.json.decode(row.tags, type=dict[str, str]).get("file")
    try:
        data = (folder / file).read_bytes() if file else b""
    except OSError:
        return _left(finding, _NO_FILE)
    if hashlib.sha256(data).hexdigest() != row.sha256:
        return _left(finding, _NO_FILE)
    mill.store.put(finding.key, data)
    return _mended(finding, f"restored from {folder / (file or '')}")


def _thumbnail(mill: Mill, finding: Finding) -> Finding:
    """Make it from its picture, unless that is not what it was."""
    with mill.ledger.read() as connection:
        row = next(images.of_items(connection, finding.job_id, [finding.item or 0]), None)
    if row is None or row.object_key is None:
        return _mended(finding, AGAIN)
    try:
        data = mill.store.get(row.object_key)
        if row.sha256 not in (None, hashlib.sha256(data).hexdigest()):
            return _left(finding, "its picture is not what was recorded")
        picture = decoded(data)
    except (ObjectMissing, InputError):
        return _left(finding, "its picture cannot be read")
    mill.store.put(finding.key, encode_thumbnail(picture))
    return _mended(finding, "made from its picture")


def _orphans(mill: Mill, findings: list[Finding], *, delete: bool) -> list[Finding]:
    done: list[Finding] = []
    for name, some in groupby(findings, lambda one: one.job):
        its = list(some)
        for at in range(0, len(its), _ORPHANS_AT_ONCE):
            done += _orphans_of(mill, name, its[at : at + _ORPHANS_AT_ONCE], delete=delete)
    return done


def _orphans_of(mill: Mill, name: str, findings: list[Finding], *, delete: bool) -> list[Finding]:
    """With the job's row held, so that nobody lets it go on meanwhile."""
    keys = [one.key for one in findings]
    with mill.ledger.write() as connection:
        job = checks.job_named(connection, name)
        if job is not None:
            checks.hold(connection, job.id)
        _, unnamed = orphans.still_unnamed(connection, name, keys)
        how = _clear(mill, unnamed, delete=delete)
    return [
        _mended(one, how) if one.key in unnamed else _mended(one, "it has a row by now")
        for one in findings
    ]


def _clear(mill: Mill, keys: Collection[str], *, delete: bool) -> str:
    """Remove objects, or move them apart; what that is called."""
    for key in () if delete else sorted(keys):
        with suppress(ObjectMissing):
            mill.store.put(LOST + key, mill.store.get(key))
    mill.store.delete(sorted(keys))
    return "removed" if delete else f"moved below {LOST}"


def _job_gone(mill: Mill, finding: Finding, *, delete: bool) -> Finding:
    """Nothing can be known of such rows; their objects go as those without a row do."""
    how = ""
    while True:
        with mill.ledger.write() as connection:
            rows = checks.first_of(connection, finding.job_id, _ORPHANS_AT_ONCE)
            if not rows:
                return _mended(finding, f"rows removed, objects {how}")
            putting_back.remove(connection, finding.job_id, [row.item for row in rows])
            keys = {key for row in rows for key in (row.object_key, row.thumbnail_key) if key}
            how = _clear(mill, keys - checks.named_anywhere(connection, keys), delete=delete)


def _mended(finding: Finding, how: str) -> Finding:
    return msgspec.structs.replace(finding, mended=how)


def _left(finding: Finding, why: str) -> Finding:
    return msgspec.structs.replace(finding, left=why)
