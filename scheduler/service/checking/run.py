"""A check from its beginning, or from where a killed one was, to its end.

All objects first, then all rows, job by job: mending rows lets jobs go on, and objects without
a row are sought only in jobs that have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Final

import msgspec

from scheduler.service import finding as search
from scheduler.service.checking import orphans
from scheduler.service.checking.findings import Finding, Kind, Summary, Wanted
from scheduler.service.checking.journal import Journal, Place
from scheduler.service.checking.looking import Looker
from scheduler.service.checking.mending import mend
from scheduler.service.checking.pace import Pace
from storage.contract.keys import ITEMS_PER_FOLDER
from storage.db import checks, jobs
from storage.db.checks import JobPlace, Kept
from storage.db.images import ImageRow
from storage.opening import Mill

Step = tuple[list[Finding], Place]
Told = Callable[[Place], None]

_SEARCHED_AT_ONCE: Final = 500


def check(
    mill: Mill, wanted: Wanted, journal: Journal, *, told: Told = lambda _place: None
) -> Summary:
    """Compare, and mend if that is wanted; findings are in the journal afterwards.

    `told` hears after each step how far it is.
    """
    resumed = journal.resumed
    pace = Pace(wanted.rate)
    with ThreadPoolExecutor(wanted.threads) as pool:
        looker = Looker(mill.ledger, mill.store, pool, pace, deep=wanted.deep)
        for step, place in _steps(mill, wanted, looker, pace, journal.place):
            repair = wanted.repair and step
            found = mend(mill, step, delete_orphans=wanted.delete_orphans) if repair else step
            journal.write(found, place)
            told(place)
    return _summary(journal, wanted, resumed=resumed)


def _steps(mill: Mill, wanted: Wanted, looker: Looker, pace: Pace, start: Place) -> Iterator[Step]:
    if wanted.query is not None:
        yield from _matches(mill, wanted, looker, start)
        return
    place = start
    if not place.objects_done:
        for step in _objects(mill, wanted, pace, start):
            place = step[1]
            yield step
        place = msgspec.structs.replace(place, objects_done=True)
        yield [], place
    yield from _rows(mill, wanted, looker, place)


def _rows(mill: Mill, wanted: Wanted, looker: Looker, place: Place) -> Iterator[Step]:
    """Every row with its objects, by job and item."""
    for job in _jobs(mill, wanted, place):
        start = place.next_item if job.id == place.job_id else 0
        if job.name is None:
            gone = Finding(kind=Kind.JOB_GONE, job_id=job.id, detail=f"job {job.id}")
            place = msgspec.structs.replace(place, job_id=job.id + 1, next_item=0)
            yield [gone], place
            continue
        for rows in _folders(mill, job.id, start):
            place = msgspec.structs.replace(
                place,
                job_id=job.id,
                next_item=rows[-1].item + 1,
                looked_at=place.looked_at + len(rows),
            )
            yield looker.compare(job.name, rows), place


def _jobs(mill: Mill, wanted: Wanted, place: Place) -> Iterator[JobPlace]:
    if wanted.job is not None:
        with mill.ledger.read() as connection:
            found = jobs.find(connection, wanted.job)
        yield JobPlace(found.id, found.name, found.state, found.item_count)
        return
    after = place.job_id - 1
    while True:
        with mill.ledger.read() as connection:
            job = checks.job_after(connection, after)
        if job is None:
            return
        yield job
        after = job.id


def _folders(mill: Mill, job_id: int, start: int) -> Iterator[list[Kept]]:
    """A job's rows, those together whose pictures share a folder."""
    while True:
        with mill.ledger.read() as connection:
            first = checks.first_item_from(connection, job_id, start)
            if first is None:
                return
            start = (first // ITEMS_PER_FOLDER + 1) * ITEMS_PER_FOLDER
            rows = checks.kept_between(connection, job_id, first, start)
        yield rows


def _objects(mill: Mill, wanted: Wanted, pace: Pace, place: Place) -> Iterator[Step]:
    """Every object with its row. A listing cannot begin in its middle, so this begins anew."""
    place = msgspec.structs.replace(place, objects=0)
    name = None
    if wanted.job is not None:
        with mill.ledger.read() as connection:
            name = jobs.find(connection, wanted.job).name
    for listed in orphans.pages(mill.store, name):
        pace.take(len(listed))
        place = msgspec.structs.replace(place, objects=place.objects + len(listed))
        yield orphans.among(mill.ledger, listed), place


def _matches(mill: Mill, wanted: Wanted, looker: Looker, place: Place) -> Iterator[Step]:
    """The rows a query finds, page by page."""
    if not place.cursor and not mill.connections.is_farm:
        search.catch_up(mill.ledger)
    ask = search.Ask(query=wanted.query or "", job=wanted.job)
    sort = search.sort_of("created")
    cursor: str | None = place.cursor or None
    while not place.matches_done:
        page = search.find(mill.ledger, ask, sort=sort, limit=_SEARCHED_AT_ONCE, after=cursor)
        cursor = page.next
        place = msgspec.structs.replace(
            place,
            cursor=cursor or "",
            matches_done=cursor is None,
            looked_at=place.looked_at + len(page.images),
        )
        by_job = groupby(sorted(page.images, key=_place_of), key=lambda one: one[0])
        found = [
            finding
            for name, some in by_job
            for finding in looker.compare(name, [_kept(row) for _, row in some])
        ]
        yield found, place


def _place_of(one: tuple[str, ImageRow]) -> tuple[str, int]:
    return one[0], one[1].item


def _kept(row: ImageRow) -> Kept:
    return Kept(*(getattr(row, name) for name in Kept.__struct_fields__))


def _summary(journal: Journal, wanted: Wanted, *, resumed: bool) -> Summary:
    counts: dict[str, int] = {}
    mended = left = 0
    for one in journal.findings():
        counts[one.kind.value] = counts.get(one.kind.value, 0) + 1
        mended += bool(one.mended)
        left += not one.mended
    return Summary(
        looked_at=journal.place.looked_at,
        objects=journal.place.objects,
        counts=counts,
        mended=mended,
        left=left,
        resumed=resumed,
        deep=wanted.deep,
    )
