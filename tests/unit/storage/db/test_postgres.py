"""A ledger on PostgreSQL: its URL, its sessions, its clock, and a server that goes away."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from storage.contract.errors import LeaseLost, LedgerUnavailable, SettingError
from storage.db import clock, postgres, shelves, tables
from storage.db.engine import Ledger, open_postgres
from storage.db.schema import ensure_schema
from storage.testing.factories import add_groups, add_worker, cut_task, make_image_row
from tests.services.postgres import PostgresServer, free_port

SECRET = "hunter2"


@pytest.fixture
def other(postgres_ledger: Ledger) -> Iterator[Ledger]:
    """The same ledger as another process would open it."""
    opened = open_postgres(postgres_ledger.engine.url.render_as_string(hide_password=False))
    yield opened
    opened.close()


def worker_count(ledger: Ledger) -> int:
    with ledger.read() as connection:
        counted = sa.select(sa.func.count()).select_from(tables.workers)
        return connection.execute(counted).scalar_one()


def why(ledger: Ledger) -> LedgerUnavailable:
    """What reading it is answered with."""
    with pytest.raises(LedgerUnavailable) as caught:
        worker_count(ledger)
    assert SECRET not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"mysql://u:{SECRET}@h/d", "mysql is not a database this program knows"),
        (f"::{SECRET}", "is not a URL"),
        (f"postgresql://u:{SECRET}@h", "names no database"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_repeating_it(url: str, said: str) -> None:
    with pytest.raises(SettingError, match=said) as caught:
        open_postgres(url)
    assert SECRET not in str(caught.value)
    assert "postgresql+psycopg://" in str(caught.value.hint)


def test_where_it_is_is_told_without_user_and_password() -> None:
    opened = open_postgres(f"postgresql+psycopg://ada:{SECRET}@db.example:5433/mill?sslmode=prefer")
    assert opened.where == "database mill on db.example:5433"


def test_a_reader_sees_one_moment_and_cannot_write(postgres_ledger: Ledger, other: Ledger) -> None:
    with postgres_ledger.read() as connection:
        counted = sa.select(sa.func.count()).select_from(tables.workers)
        assert connection.execute(counted).scalar_one() == 0
        add_worker(other)
        assert connection.execute(counted).scalar_one() == 0
    assert worker_count(postgres_ledger) == 1

    with pytest.raises(LedgerUnavailable, match="takes no changes"), postgres_ledger.read() as c:
        c.execute(sa.delete(tables.workers))


def test_a_write_that_raises_leaves_no_trace(postgres_ledger: Ledger) -> None:
    add_worker(postgres_ledger)

    def interrupted() -> None:
        with postgres_ledger.write() as connection:
            connection.execute(sa.delete(tables.workers))
            raise LeaseLost("mine")

    with pytest.raises(LeaseLost, match="mine"):
        interrupted()
    assert worker_count(postgres_ledger) == 1


def test_a_stopped_writer_does_not_hold_its_rows_for_ever(
    postgres_template: str, postgres_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_worker(postgres_ledger)
    monkeypatch.setattr(postgres, "_BEGIN_WRITE", postgres._BEGIN_WRITE.replace("30s", "200ms"))
    stopped = open_postgres(postgres_template)

    def stop_within() -> None:
        with stopped.write() as connection:
            connection.execute(sa.update(tables.workers).values(note="held"))
            freed = sa.update(tables.workers).values(note="free")
            with postgres_ledger.write() as other_connection:  # waits for the row
                other_connection.execute(freed)
            connection.execute(freed)

    with pytest.raises(LedgerUnavailable, match=r"rested too long within a transaction|cut"):
        stop_within()
    with postgres_ledger.read() as connection:
        assert connection.execute(sa.select(tables.workers.c.note)).scalar_one() == "free"
    stopped.close()


def test_nothing_that_answers_is_said() -> None:
    opened = open_postgres(f"postgresql://ada:{SECRET}@127.0.0.1:{free_port()}/mill")
    error = why(opened)
    assert "nothing answers there" in error.message
    assert error.hint == "start the server, or check host and port"


def test_a_database_or_user_that_is_not_there_is_said(postgres_template: str) -> None:
    url = sa.make_url(postgres_template)
    nowhere = url.set(database="rendermill_never_made")
    nobody = url.set(username="nobody_at_all", password=SECRET)
    messages = [
        why(open_postgres(one.render_as_string(hide_password=False))).message
        for one in (nowhere, nobody)
    ]
    assert "there is no such database" in messages[0]
    assert "the password or user is wrong" in messages[1]


def test_a_database_without_tables_says_how_to_make_them(postgres_url: str) -> None:
    opened = open_postgres(postgres_url)
    error = why(opened)
    assert "its tables are missing" in error.message
    assert error.hint == "run: rendermill init"
    opened.close()


def test_a_server_that_accepts_and_never_answers_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgres, "_CONNECT_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        error = why(open_postgres(f"postgresql://ada:{SECRET}@127.0.0.1:{port}/mill"))
    assert "the server does not answer" in error.message


def test_an_old_server_is_refused(postgres_template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "OLDEST_SERVER", 990000)
    with pytest.raises(LedgerUnavailable, match="this program needs 99 or newer"):
        worker_count(open_postgres(postgres_template))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
def test_a_server_that_restarts_costs_errors_while_it_is_away_and_nothing_else(
    private_postgres: PostgresServer, how: signal.Signals
) -> None:
    opened = open_postgres(private_postgres.url())
    ensure_schema(opened)
    add_worker(opened)
    before = opened.now()

    def stop_within() -> None:
        with opened.write() as connection:
            connection.execute(sa.delete(tables.workers))
            private_postgres.stop(how)

    with pytest.raises(LedgerUnavailable):
        stop_within()
    assert "nothing answers there" in why(opened).message
    assert opened.now() >= before  # the clock goes on without its server

    private_postgres.start()
    assert worker_count(opened) == 1
    opened.close()


def test_a_full_disk_and_a_crowded_server_are_said(postgres_ledger: Ledger) -> None:
    def raising(state: str) -> str:
        with pytest.raises(LedgerUnavailable) as caught, postgres_ledger.write() as connection:
            connection.exec_driver_sql(
                f"DO $$ BEGIN RAISE EXCEPTION 'as told' USING ERRCODE = '{state}'; END $$"
            )
        return caught.value.message

    assert "the server's disk is full (as told)" in raising("53100")
    assert "the server has no connection left" in raising("53300")
    assert "two processes waited for each other" in raising("40P01")
    assert raising("XX000").endswith(": as told")


def test_the_time_is_the_servers_and_asked_for_now_and_then_only(
    postgres_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    uptime = 1000.0
    monkeypatch.setattr(clock, "_uptime", lambda: uptime)
    asked: list[str] = []
    sa.event.listen(
        postgres_ledger.engine,
        "before_cursor_execute",
        lambda _c, _cursor, text, *_: asked.append(text),
    )
    now = clock.ServerClock(postgres_ledger.engine)
    with postgres_ledger.read() as connection:
        told = connection.execute(
            sa.text("SELECT extract(epoch FROM clock_timestamp())::double precision")
        ).scalar_one()
    asked.clear()
    first = now()
    assert abs(first - told) < 30
    uptime += 59.0
    assert now() == first + 59.0
    assert len(asked) == 1
    uptime += 2.0
    assert abs(now() - told) < 30  # asked again, and so right again
    assert len(asked) == 2


# --- shelves


def partitions(ledger: Ledger) -> dict[str, str]:
    with ledger.read() as connection:
        found = connection.exec_driver_sql(
            "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_class c"
            " WHERE c.relispartition AND c.relkind = 'r'"
        )
        return {row[0]: row[1].removeprefix("FOR VALUES ") for row in found}


@pytest.fixture
def small_shelves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "SHELF_ITEMS", 100)
    monkeypatch.setattr(shelves, "SHELF_JOBS", 10)


@pytest.mark.usefixtures("small_shelves")
def test_small_jobs_share_a_shelf_and_a_large_one_has_its_own(postgres_ledger: Ledger) -> None:
    sizes = {"a": 60, "b": 40, "c": 1, "big": 250, "d": 5}
    ids = {name: add_groups(postgres_ledger, (n, 1), name=name).id for name, n in sizes.items()}
    assert ids == {"a": 1, "b": 2, "c": 1000, "big": 1010, "d": 1011}
    assert partitions(postgres_ledger) == {
        "images_1_0": "FROM ('1', MINVALUE) TO ('1000', MINVALUE)",
        "images_1000_0": "FROM ('1000', MINVALUE) TO ('1010', MINVALUE)",
        "images_1010_0": "FROM ('1010', MINVALUE) TO ('1010', '100')",
        "images_1010_1": "FROM ('1010', '100') TO ('1010', '200')",
        "images_1010_2": "FROM ('1010', '200') TO ('1011', MINVALUE)",
        "images_1011_0": "FROM ('1011', MINVALUE) TO ('1021', MINVALUE)",
    }


@pytest.mark.usefixtures("small_shelves")
def test_rows_of_every_job_find_their_place_and_those_of_a_large_one_go_at_once(
    postgres_ledger: Ledger,
) -> None:
    add_worker(postgres_ledger)
    found: dict[str, int] = {}
    for group_id, (name, items) in enumerate((("small", 3), ("big", 250)), 1):
        found[name] = add_groups(postgres_ledger, (items, 1), name=name).id
        task = cut_task(postgres_ledger, 1, items=items, group_id=group_id)
        assert task
        rows = [make_image_row(task, item) for item in range(items)]
        with postgres_ledger.write() as connection:
            from storage.db import images

            images.insert(connection, rows)

    def left() -> list[Any]:
        counted = sa.select(tables.images.c.job_id, sa.func.count()).group_by("job_id")
        with postgres_ledger.read() as connection:
            return sorted(map(tuple, connection.execute(counted)))

    assert left() == [(found["small"], 3), (found["big"], 250)]
    with postgres_ledger.write() as connection:
        shelves.drop_rows(connection, found["big"])
    assert left() == [(found["small"], 3)]
    with postgres_ledger.write() as connection:
        shelves.drop_rows(connection, found["small"])
    assert left() == []


@pytest.mark.usefixtures("small_shelves")
def test_jobs_that_are_written_at_once_share_shelves_without_overlap(
    postgres_ledger: Ledger,
) -> None:
    together = threading.Barrier(4)
    ids: list[int] = []

    def write(number: int) -> None:
        together.wait()
        for turn in range(3):
            job = add_groups(postgres_ledger, (60, 1), name=f"{number}-{turn}")
            ids.append(job.id)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(ids)) == 12
    assert len(partitions(postgres_ledger)) == 12
