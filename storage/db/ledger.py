"""The ledger, and the two kinds of transaction on it, whatever database keeps it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from storage.contract.errors import LedgerUnavailable, RendermillError

READ_ONLY = "rendermill_read_only"
"""Execution option by which a "begin" listener tells the two kinds of transaction apart."""

Translate = Callable[[sa.exc.DBAPIError, str], LedgerUnavailable]


class Ledger:
    """A database that holds jobs, tasks, leases and images.

    `read` and `write` give a connection inside one transaction, which is committed when the
    block ends and rolled back when it raises. Errors of the driver become `LedgerUnavailable`.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        where: str,
        translate: Translate,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`where` names the database in messages, and holds no secret."""
        self.engine = engine
        self.where = where
        self._reader = engine.execution_options(**{READ_ONLY: True})
        self._translate = translate
        self._clock = clock

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot: what it reads is consistent, and it never waits for a writer."""
        # Ended by a commit: after a rollback the driver forgets the statements it prepared.
        with self._translated(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """The right to change rows; waits for other writers of the same rows."""
        with self._translated(), self.engine.begin() as connection:
            yield connection

    def now(self) -> float:
        """The time leases are measured by, in seconds since the epoch: the database's."""
        with self._translated():
            return self._clock()

    def close(self) -> None:
        """Drop all connections."""
        self.engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except RendermillError:
            raise
        except sa.exc.IntegrityError:
            raise  # not the database's condition but our mistake
        except sa.exc.DBAPIError as error:
            raise self._translate(error, self.where) from error
        except sa.exc.TimeoutError as error:
            raise LedgerUnavailable(
                f"{self.where}: every connection of this process is in use", hint="try again"
            ) from error
