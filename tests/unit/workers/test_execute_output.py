"""What a job asks of its files, from its claim to its rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from storage.contract.claims import ClaimedTask
from storage.contract.outcomes import Outcome, Reason
from storage.contract.output import OutputOptions, Produced, Safety, decode_output
from storage.db import images, tables
from storage.db.engine import Ledger
from storage.db.images import ImageFilter, ImageRow
from storage.db.ranges import decode_failures
from storage.objects.memory import MemoryStore
from storage.testing.factories import add_job, make_item, make_spec
from workers.execute import Tools, execute

Claim = Callable[[], ClaimedTask]


@pytest.fixture
def submit(ledger: Ledger, store: MemoryStore) -> Callable[[str], None]:
    """Submits a job of eight items whose files are to be as the JSON says."""

    def add(output: str) -> None:
        items = [make_item(number, prompt=f"prompt {number}") for number in range(8)]
        add_job(ledger, store, items, spec=make_spec(denoise=4))
        with ledger.write() as connection:
            connection.execute(sa.update(tables.jobs).values(output=output))

    return add


def rows_of(ledger: Ledger) -> list[ImageRow]:
    with ledger.read() as connection:
        return [row for _, row in images.page(connection, ImageFilter(), limit=100)]


def failures_of(ledger: Ledger) -> list[tuple[Reason, str]]:
    """Of the attempts at what went back."""
    with ledger.read() as connection:
        found = connection.execute(sa.select(tables.returned.c.failures)).scalars()
        return [(one.reason, one.detail) for text in found for one in decode_failures(text)]


class FakeChecker:
    """Flags every other picture."""

    def check(self, pixels: Sequence[Any]) -> list[Safety]:
        return [Safety(flagged=number % 2 == 1) for number, _ in enumerate(pixels)]


class FakeInspector:
    """Has one checker for all."""

    def checker_of(self, _options: OutputOptions, _spec: Any) -> FakeChecker:
        return FakeChecker()


@pytest.mark.parametrize("output", ["", '{"format":"jpeg","quality":90}', '{"metadata":"none"}'])
def test_a_claimed_task_knows_what_its_job_asks_of_files(
    submit: Callable[[str], None], claim: Claim, output: str
) -> None:
    submit(output)

    assert claim().output == decode_output(output)


def test_files_are_as_the_job_asks(
    submit: Callable[[str], None], ledger: Ledger, store: MemoryStore, tools: Tools, claim: Claim
) -> None:
    submit('{"format":"webp","thumbnails":false}')

    execute(claim(), tools)

    rows = rows_of(ledger)
    assert len(rows) == 8
    assert {str(row.object_key).rpartition(".")[2] for row in rows} == {"webp"}
    assert {row.thumbnail_key for row in rows} == {None}
    assert all(row.phash is not None and row.pixels_sha256 for row in rows)


@pytest.mark.parametrize(("rule", "dropped"), [("mark", 0), ("drop", 4)])
def test_pictures_go_through_the_checker_before_they_are_kept(
    submit: Callable[[str], None],
    ledger: Ledger,
    store: MemoryStore,
    tools: Tools,
    claim: Claim,
    rule: str,
    dropped: int,
) -> None:
    submit(f'{{"safety":"{rule}"}}')
    inspector: Any = FakeInspector()

    execute(claim(), dataclasses.replace(tools, inspector=inspector))

    rows = rows_of(ledger)
    assert [row.flagged for row in rows] == [0, 1] * 4
    failed = [row for row in rows if row.outcome == Outcome.FAILED]
    assert len(failed) == dropped
    assert all(row.reason == Reason.UNSAFE and row.object_key is None for row in failed)
    said = msgspec.json.decode(str(rows[1].produced), type=Produced)
    assert said.safety is not None
    assert said.safety.flagged


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ('{"c2pa":true}', "this worker has no certificate"),
        ('{"safety":"mark"}', "cannot check pictures"),
    ],
)
def test_what_the_worker_cannot_make_fails_the_attempt_before_anything_is_rendered(
    submit: Callable[[str], None],
    ledger: Ledger,
    store: MemoryStore,
    tools: Tools,
    claim: Claim,
    output: str,
    said: str,
) -> None:
    submit(output)
    renderer: Any = None  # would raise if it were asked

    execute(claim(), dataclasses.replace(tools, renderer=renderer))

    ((reason, detail),) = failures_of(ledger)
    assert reason is Reason.OUTPUT
    assert said in detail
    assert rows_of(ledger) == []
