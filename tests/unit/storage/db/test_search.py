"""Searches find what a plain reading of the rows finds, in order, whatever way they are looked for.

The same random queries run with the thresholds as they are and with ones that force each way of
looking: walking, fetching all, blocks, buckets.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from storage.contract.claims import ClaimedTask
from storage.contract.errors import LedgerUnavailable, QueryError, SearchTimeout
from storage.contract.outcomes import Outcome
from storage.contract.search import (
    And,
    Between,
    Everything,
    Is,
    Like,
    Not,
    Or,
    PromptLike,
    Tree,
    both,
    field_of,
)
from storage.db import images, search, search_terms
from storage.db.engine import Ledger
from storage.db.images import ImageRow
from storage.db.search import Place, Sort
from storage.db.search_index import Indexer
from storage.db.search_sql import bounded
from storage.db.search_stats import sums
from storage.db.search_terms import words_of
from storage.testing.factories import add_groups, add_worker, cut_task, make_image_row

WORDS = ("fox", "Fox", "foxglove", "red", "red", "the", "the", "the", "über", "a_b", "星", "x2")
ITEMS = 250
Catalog = tuple[Ledger, list[ImageRow]]

BLOCKS = (("a", 3), ("b", 5), ("c", 7))
"""So small that a search goes through many of them."""

WAYS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "walking": {"FEW": 0, "WALK_SHARE": 0.0, "SORTED_WALK_SHARE": 0.0},
    "blocks and buckets": {"FEW": 0, "WALK_SHARE": 9.0, "SORTED_WALK_SHARE": 9.0},
    "all at once": {"FEW": 10**9, "WALK_SHARE": 9.0, "SORTED_WALK_SHARE": 9.0},
    "small blocks": {
        **{"FEW": 0, "WALK_SHARE": 9.0, "SORTED_WALK_SHARE": 9.0, "ROOM": 0.01},
    },
}


def made(task: ClaimedTask, item: int, chance: random.Random) -> ImageRow:
    failed = chance.random() < 0.2
    return make_image_row(
        task,
        item,
        outcome=Outcome.FAILED if failed else Outcome.RENDERED,
        reason="nan" if failed else None,
        prompt=", ".join(chance.choices(WORDS, k=chance.randint(1, 5))),
        negative_prompt=chance.choice(["", "blurry", "red fox"]),
        seed=chance.choice([0, 7, 2**32 - 1, chance.randrange(2**32)]),
        model=chance.choice(["starter", "org/SDXL-Base", "org/sdxl_turbo"]),
        width=chance.choice([64, 512, 1024]),
        guidance_scale=chance.choice([0.0, 4.0, 7.5]),
        tags=chance.choice(["{}", '{"Category":"Animals"}', '{"Category":"Arts","by":"me"}']),
        seconds=None if failed else chance.choice([0.5, 1.25, chance.random() * 100]),
        bytes=None if failed else chance.randrange(10**7),
        truncated_tokens=chance.choice([0, 0, 5]),
        created_at=1e9 + item * 3600.0,
    )


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (search, search_terms):
            patch.setattr(module, "BLOCKS", BLOCKS)
            patch.setattr(module, "SMALLEST", BLOCKS[0][1])
        yield


@pytest.fixture(scope="module")
def catalog(lasting_ledger: Ledger) -> Catalog:
    """Two jobs of images that differ in all that can be asked for, indexed."""
    add_worker(lasting_ledger)
    chance = random.Random(8)
    rows = []
    for name in ("one", "two"):
        group_id = add_groups(lasting_ledger, (ITEMS, 1), name=name).id
        task = cut_task(lasting_ledger, 1, items=ITEMS, group_id=group_id)
        assert task
        rows += [made(task, item, chance) for item in range(ITEMS)]
    with lasting_ledger.write() as connection:
        images.insert(connection, rows)
    assert Indexer(lasting_ledger).catch_up(60) == len(rows)
    if lasting_ledger.engine.dialect.name == "postgresql":
        with lasting_ledger.write() as connection:
            connection.exec_driver_sql("ANALYZE")
    numbers = {(row.job_id, row.item): row for row in rows}
    with lasting_ledger.read() as connection:
        ordered = connection.exec_driver_sql("SELECT job_id, item FROM search ORDER BY n").all()
    return lasting_ledger, [numbers[row[0], row[1]] for row in ordered]


# --- What a query means, in Python --------------------------------------------------------------


def meets(row: ImageRow, tree: Tree) -> bool:
    match tree:
        case Everything():
            return True
        case And(parts=parts):
            return all(meets(row, part) for part in parts)
        case Or(parts=parts):
            return any(meets(row, part) for part in parts)
        case Not(part=part):
            return not meets(row, part)
        case PromptLike(pattern=pattern):
            glob = pattern.casefold().replace("%", "*").replace("_", "?")
            return fnmatchcase(row.prompt.casefold(), glob)
        case Is(field=name, text=text):
            return has(row, name, text)
        case Like(field=name, pattern=pattern):
            return any(fnmatchcase(one, pattern.casefold()) for one in values(row, name))
        case Between():
            return within(row, tree)


def values(row: ImageRow, name: str) -> list[str]:
    if name == "prompt":
        return words_of(row.prompt)
    if name == "negative":
        return words_of(row.negative_prompt)
    if name == "job":
        return [{1: "one", 2: "two"}[row.job_id]]
    if name.startswith("tag."):
        tags = msgspec.json.decode(row.tags, type=dict[str, str])
        found = {key.casefold(): value.casefold() for key, value in tags.items()}
        return [found[name[4:]]] if name[4:] in found else []
    known = field_of(name)
    assert known
    value = getattr(row, known.source)
    return [] if value is None else [str(value).casefold()]


def has(row: ImageRow, name: str, text: str) -> bool:
    if name not in {"prompt", "negative"}:
        return text.casefold() in values(row, name)
    wanted, there = words_of(text), values(row, name)
    return any(there[at : at + len(wanted)] == wanted for at in range(len(there)))


def within(row: ImageRow, asked: Between) -> bool:
    known = field_of(asked.field)
    assert known
    value = getattr(row, known.source)
    if value is None:
        return False
    low = asked.low is None or value > asked.low or (asked.with_low and value == asked.low)
    high = asked.high is None or value < asked.high or (asked.with_high and value == asked.high)
    return low and high


numbers = st.sampled_from(
    [("seed", 7), ("seed", 2**31), ("width", 512), ("width", 600), ("cfg", 4), ("item", 100),
     ("seconds", 1.25), ("bytes", 5e6), ("truncated", 1), ("created", 1e9 + 360_000)]
)  # fmt: skip


@st.composite
def ranges(draw: st.DrawFn) -> Between:
    name, value = draw(numbers)
    low, high = draw(st.sampled_from([(value, None), (None, value), (value, value * 2)]))
    return Between(name, low, high, draw(st.booleans()), draw(st.booleans()))


leaves = st.one_of(
    st.sampled_from(
        [
            Is("prompt", "fox"), Is("prompt", "RED fox"), Is("prompt", "the the"),
            Is("prompt", "nowhere"), Is("prompt", "星"), Is("prompt", "ÜBER"),
            Is("negative", "blurry"), Is("negative", "red"), Is("model", "ORG/sdxl-base"),
            Is("job", "one"), Is("outcome", "failed"), Is("tag.category", "animals"),
            Is("tag.category", "nothing"), Like("model", "*sdxl*"), Like("prompt", "fox*"),
            Like("prompt", "*ox*"), Like("prompt", "?ox"), Like("tag.category", "*"),
            Like("model", "org/sdxl_*"), PromptLike("%fox%"), PromptLike("%ox, re%"),
            PromptLike("the%"), PromptLike("%_ox%red"), PromptLike("fox"), Everything(),
            Between("seed", 7, 7), Between("seed", 0, 0), Between("seconds", 1.25, 1.25),
        ]
    ),
    ranges(),
)  # fmt: skip

trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: Or(tuple(parts))),
        inner.map(Not),
    ),
    max_leaves=6,
)

sorts = st.builds(
    Sort,
    st.sampled_from(["created", "created", "seed", "seconds", "bytes", "width", "cfg"]),
    st.booleans(),
)


def expected(rows: list[ImageRow], tree: Tree, sort: Sort) -> list[tuple[int, int]]:
    """Keys of what matches, in order; `rows` are in the catalog's order."""
    found = [(n, row) for n, row in enumerate(rows) if meets(row, tree)]
    known = field_of(sort.field)
    assert known
    if sort.field != "created":
        found = [one for one in found if getattr(one[1], known.source) is not None]
        found.sort(key=lambda one: (getattr(one[1], known.source), one[0]))
    if sort.descending:
        found.reverse()
    return [(row.job_id, row.item) for _, row in found]


def turned(ledger: Ledger, tree: Tree, sort: Sort, limit: int) -> list[search.Hit]:
    """All pages, one after the other."""
    found: list[search.Hit] = []
    after: Place | None = None
    with ledger.read() as connection, bounded(connection):
        while page := search.page(connection, tree, sort=sort, limit=limit, after=after):
            assert len(page) <= limit
            found += page
            after = page[-1].place
    return found


def keys(hits: list[search.Hit]) -> list[tuple[int, int]]:
    return [(hit.job_id, hit.item) for hit in hits]


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=25)
@given(tree=trees, sort=sorts, limit=st.sampled_from([7, 60, 600]))
def test_pages_hold_every_match_once_and_in_order(
    catalog: Catalog, way: str, tree: Tree, sort: Sort, limit: int
) -> None:
    ledger, rows = catalog
    with pytest.MonkeyPatch.context() as patch:
        for name, value in WAYS[way].items():
            patch.setattr(search, name, value)
        assert keys(turned(ledger, tree, sort, limit)) == expected(rows, tree, sort)


@pytest.mark.parametrize("down", [True, False])
@pytest.mark.parametrize("limit", [3, 40])
def test_a_word_within_dates_long_past_is_found_from_there_on(
    catalog: Catalog, down: bool, limit: int
) -> None:
    ledger, rows = catalog
    tree = both(Is("prompt", "fox"), Between("created", 1e9 + 2e5, 1e9 + 4e5))
    sort = Sort("created", down)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "WALK_SHARE", 9.0)
        found = keys(turned(ledger, tree, sort, limit))
    assert found
    assert found == expected(rows, tree, sort)


@given(first=st.integers(0, 3000), more=st.integers(0, 3000))
def test_blocks_that_cover_numbers_hold_all_of_them_and_few_others(first: int, more: int) -> None:
    powers = dict(BLOCKS)
    held: list[int] = []
    for block in search_terms.covering(first, first + more):
        power = powers[block[0]]
        held += range(int(block[1:]) << power, (int(block[1:]) + 1) << power)
    assert len(held) == len(set(held))
    assert set(range(first, first + more + 1)) <= set(held)
    assert len(held) <= more + 1 + 2 * (1 << BLOCKS[0][1])


@settings(max_examples=15)
@given(tree=leaves, sort=sorts, data=st.data())
def test_pages_are_turned_back_as_well(
    catalog: Catalog, tree: Tree, sort: Sort, data: st.DataObject
) -> None:
    ledger, rows = catalog
    whole = turned(ledger, tree, sort, 100)
    if not whole:
        return
    at = data.draw(st.integers(0, len(whole) - 1))
    with ledger.read() as connection, bounded(connection):
        back = search.page(connection, tree, sort=sort.turned, limit=9, after=whole[at].place)
    assert keys(back)[::-1] == expected(rows, tree, sort)[max(0, at - 9) : at]


@settings(max_examples=25)
@given(tree=trees)
def test_counts_are_exact_when_asked_and_estimates_within_the_catalog(
    catalog: Catalog, tree: Tree
) -> None:
    ledger, rows = catalog
    truth = sum(meets(row, tree) for row in rows)
    with ledger.read() as connection, bounded(connection):
        assert search.count(connection, tree) == truth
        about, sure = search.estimate(connection, tree)
    assert 0 <= about <= len(rows)
    assert about == truth or not sure


@settings(max_examples=10)
@given(tree=leaves)
def test_sums_are_those_of_the_rows(catalog: Catalog, tree: Tree) -> None:
    ledger, rows = catalog
    by = [one for one in (field_of("model"), field_of("tag.Category")) if one]
    with ledger.read() as connection, bounded(connection):
        found = sums(connection, tree, by)
    counted: dict[tuple[Any, ...], int] = {}
    for row in rows:
        if meets(row, tree):
            tag = msgspec.json.decode(row.tags, type=dict[str, str]).get("Category")
            counted[row.model, tag] = counted.get((row.model, tag), 0) + 1
    assert {one.values: one.images for one in found} == counted
    matching = [row for row in rows if meets(row, tree)]
    assert sum(one.failed for one in found) == sum(row.outcome == "failed" for row in matching)
    assert sum(one.bytes for one in found) == sum(row.bytes or 0 for row in matching)
    assert sum(one.seconds for one in found) == pytest.approx(
        sum(row.seconds or 0.0 for row in matching)
    )


def test_a_field_that_is_not_sorted_by_is_refused(catalog: Catalog) -> None:
    with catalog[0].read() as connection, pytest.raises(QueryError, match="cannot be sorted"):
        search.page(connection, Everything(), sort=Sort("prompt"), limit=1)


def test_a_pattern_that_fits_too_much_is_refused(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.db.search_plan.MOST_TERMS", 2)
    with catalog[0].read() as connection, pytest.raises(QueryError, match="fits more than"):
        search.page(connection, Like("prompt", "?*e*"), sort=Sort(), limit=1)


def test_part_of_a_word_that_fits_many_words_is_compared_row_by_row(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, rows = catalog
    monkeypatch.setattr("storage.db.search_plan.MOST_TERMS", 1)
    tree = Like("prompt", "*ox*")
    assert keys(turned(ledger, tree, Sort(), 50)) == expected(rows, tree, Sort())


def test_a_search_that_takes_too_long_is_ended(catalog: Catalog) -> None:
    ledger = catalog[0]
    endless = {
        "sqlite": "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
        " SELECT max(x) FROM c",
        "postgresql": "SELECT pg_sleep(60)",
    }[ledger.engine.dialect.name]
    with (
        pytest.raises(SearchTimeout, match=r"ended after 0\.2 seconds") as ended,
        ledger.read() as connection,
        bounded(connection, 0.2, hint="narrow it down"),
    ):
        connection.exec_driver_sql(endless)
    assert ended.value.hint == "narrow it down"
    with ledger.read() as connection:  # the next one has all the time it needs
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1


def test_other_faults_of_the_database_are_not_called_slow(catalog: Catalog) -> None:
    with (
        pytest.raises(LedgerUnavailable),
        catalog[0].read() as connection,
        bounded(connection, 5),
    ):
        connection.exec_driver_sql("SELECT nonsense")


# --- What the databases do ----------------------------------------------------------------------


SUITE: dict[str, tuple[Tree, Sort]] = {
    "newest": (Everything(), Sort()),
    "word": (Is("prompt", "fox"), Sort()),
    "word by seed": (Is("prompt", "the"), Sort("seed")),
    "word by width": (Is("prompt", "the"), Sort("width", False)),
    "word and number": (both(Is("prompt", "fox"), Between("width", 512, None)), Sort()),
    "all kinds": (
        both(Is("prompt", "fox"), Like("model", "*sdxl*"), Is("tag.category", "animals")),
        Sort("seconds"),
    ),
    "phrase": (Is("prompt", "red fox"), Sort()),
    "part of a word": (Like("prompt", "*ox*"), Sort()),
    "part of a prompt": (PromptLike("%ox, re%"), Sort()),
    "seed": (Between("seed", 7, 7), Sort()),
    "not": (Not(Is("prompt", "the")), Sort()),
    "seconds": (Between("seconds", 50, None), Sort("bytes")),
    "created": (Between("created", 1e9 + 8e5, None), Sort("created", False)),
    "or": (Or((Is("prompt", "fox"), Between("seed", 0, 0))), Sort()),
}


@pytest.fixture
def plans(catalog: Catalog) -> Callable[[Callable[[sa.Connection], Any]], str]:
    """The plans of all statements a function makes."""
    ledger = catalog[0]

    def explain(ask: Callable[[sa.Connection], Any]) -> str:
        asked: list[tuple[str, Any]] = []

        def note(_connection: Any, _cursor: Any, text: str, given: Any, *_: Any) -> None:
            if text.lstrip().startswith(("SELECT", "WITH")):
                asked.append((text, given))

        with ledger.read() as connection, bounded(connection):
            event.listen(ledger.engine, "before_cursor_execute", note)
            ask(connection)
            event.remove(ledger.engine, "before_cursor_execute", note)
            sqlite = ledger.engine.dialect.name == "sqlite"
            word = "EXPLAIN QUERY PLAN" if sqlite else "EXPLAIN"
            return "\n".join(
                str(row[-1])
                for text, given in asked
                for row in connection.exec_driver_sql(f"{word} {text}", given)
            )

    return explain


@pytest.mark.parametrize("way", ["as it is", "blocks and buckets"])
@pytest.mark.parametrize("name", SUITE)
def test_no_search_reads_the_whole_catalog(
    catalog: Catalog,
    plans: Callable[[Callable[[sa.Connection], Any]], str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    way: str,
) -> None:
    for threshold, value in WAYS[way].items():
        monkeypatch.setattr(search, threshold, value)
    tree, sort = SUITE[name]
    found: list[tuple[int, int]] = []

    def ask(connection: sa.Connection) -> None:
        hits = search.page(connection, tree, sort=sort, limit=20)
        found.extend(keys(hits))
        images.of_keys(connection, keys(hits))

    plan = plans(ask)

    assert found
    if catalog[0].engine.dialect.name == "postgresql":
        assert "Seq Scan on search" not in plan.replace("search_words", "")
        assert "Seq Scan on images" not in plan
    else:
        lines = plan.splitlines()
        whole = [line for line in lines if line.startswith("SCAN") and "VIRTUAL" not in line]
        known = {"SCAN search", "SCAN hits", "SCAN probe"}
        assert [one for one in whole if one not in known and "ix_search" not in one] == []
        assert not any("images" in line for line in whole)
        walked = "SCAN search" in lines  # from one end until the page is full, so not sorted
        assert not (walked and "USE TEMP B-TREE FOR ORDER BY" in lines)
