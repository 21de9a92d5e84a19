"""Mending links: what is wrong with a link is wrong with the image whose picture it is."""

from __future__ import annotations

from typing import Final

import msgspec
import sqlalchemy as sa

from scheduler.service.checking.findings import Finding
from storage.db import checks, images, jobs, putting_back
from storage.opening import Mill

_ORIGINAL: Final = "its original is to be rendered again"
_TAKEN: Final = "it takes what its original has become"


def relink(mill: Mill, links: list[Finding]) -> tuple[list[Finding], list[Finding]]:
    """Mend links by their originals; those mended, and those to be rendered by themselves."""
    done: list[Finding] = []
    alone: list[Finding] = []
    for one in links:
        with mill.ledger.write() as connection:
            how = _mended(mill, connection, one)
        if how is None:
            alone.append(msgspec.structs.replace(one, linked=None))
        else:
            done.append(msgspec.structs.replace(one, mended=how))
    return done, alone


def _mended(mill: Mill, connection: sa.Connection, link: Finding) -> str | None:
    """What was done; None if its original cannot help."""
    job_id, item = link.linked or (0, 0)
    original = next(images.of_items(connection, job_id, [item]), None)
    if original is None:
        return _ORIGINAL if _is_awaited(connection, job_id, item) else None
    if original.object_key != link.key or original.linked_job is not None:
        return None
    if original.sha256 != link.sha256:
        putting_back.relink(connection, link.job_id, link.item or 0, original)
        return _TAKEN
    if checks.shard_of(connection, job_id, item) is None:
        return None
    wanted = {item: original.sha256}
    again = putting_back.render_again(connection, job_id, wanted, now=mill.ledger.now())
    return _ORIGINAL if again else None


def _is_awaited(connection: sa.Connection, job_id: int, item: int) -> bool:
    """Whether an item without an image will have one."""
    if checks.group_of(connection, job_id, item) is None:
        return False
    return not jobs.get(connection, job_id).ended
