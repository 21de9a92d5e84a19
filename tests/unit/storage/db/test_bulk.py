"""Writing many rows at once."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from storage.db.bulk import insert_rows
from storage.db.engine import Ledger
from storage.db.tables import image_tags

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
