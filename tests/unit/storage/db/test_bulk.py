"""Writing many rows at once."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from storage.db.bulk import insert_rows
from storage.db.engine import Ledger
from storage.db.tables import embedders, image_tags, search

COLUMNS = ("item", "value", "key", "job_id")


def all_tags(ledger: Ledger) -> list[tuple[object, ...]]:
    with ledger.read() as connection:
        statement = sa.select(*[image_tags.c[name] for name in COLUMNS]).order_by("item")
        return [tuple(row) for row in connection.execute(statement)]


def test_rows_are_written_in_the_order_of_the_columns_named(ledger: Ledger) -> None:
    rows = [(n, f"v{n}", "'; DROP TABLE image_tags; --", 1) for n in range(5000)]
    with ledger.write() as connection:
        insert_rows(connection, image_tags, COLUMNS, rows)
    assert all_tags(ledger) == rows


def test_numbers_texts_and_nothing_come_back_as_they_went_in(ledger: Ledger) -> None:
    columns = ("kind", "model", "dims", "next_n", "enabled_at")
    numbers = (None, -(2**31), 2**31 - 1, 0)
    rows = [
        (f"kind {n}", "naïve\t\\N\n星" * n, numbers[n % 4], 2**63 - 1 - n, 0.1 + n)
        for n in range(20)
    ]
    with ledger.write() as connection:
        insert_rows(connection, embedders, columns, rows)
    with ledger.read() as connection:
        named = [embedders.c[name] for name in columns]
        found = connection.execute(sa.select(*named).order_by(embedders.c.enabled_at)).all()
    assert [tuple(row) for row in found] == rows


def test_a_type_that_has_only_a_text_form_is_written_as_text(ledger: Ledger) -> None:
    rows = [(n, 1, n, 1.5, 7, 0, 1, 0, 0, None, None, None, "a fox", "a:1") for n in range(1, 20)]
    with ledger.write() as connection:
        insert_rows(connection, search, tuple(search.c.keys()), rows)
    with ledger.read() as connection:
        found = connection.execute(sa.select(search.c.item, search.c.seconds, search.c.terms))
        assert {(row[0], row[1], row[2].replace("'", "")) for row in found} == {
            (n, None, "a:1") for n in range(1, 20)
        }


def test_rows_of_another_kind_are_made_tuples_one_by_one(ledger: Ledger) -> None:
    with ledger.write() as connection:
        insert_rows(connection, image_tags, COLUMNS, range(9), as_tuple=lambda n: (n, "v", "k", 1))
    assert all_tags(ledger) == [(n, "v", "k", 1) for n in range(9)]


def test_no_rows_are_no_statement(ledger: Ledger) -> None:
    with ledger.write() as connection:
        insert_rows(connection, image_tags, ("never", "looked at"), [])
    assert all_tags(ledger) == []


def test_a_column_the_table_does_not_have_is_refused(ledger: Ledger) -> None:
    with ledger.write() as connection, pytest.raises(KeyError, match=r"no columns \['colour'\]"):
        insert_rows(connection, image_tags, ("key", "colour"), [("a", "b")])


def test_one_row_that_is_refused_takes_all_of_them_back(ledger: Ledger) -> None:
    def write() -> None:
        with ledger.write() as connection:
            insert_rows(connection, image_tags, COLUMNS, [(1, "v", "k", 1), (1, "v", "k", 1)])

    with pytest.raises(IntegrityError, match=r"(?i)unique constraint"):
        write()
    assert all_tags(ledger) == []
