"""The one tree of exceptions.

::

    RendermillError            exit code 1
    |-- InputError             exit code 2: the user can mend it
    |   |-- ManifestError      collected problems, each with file, line and field
    |   |-- ModelError         a model that cannot be found or used
    |   |-- SettingError       an option, environment variable or file of settings
    |   |-- QueryError         a query of the catalog, with the column of its fault
    |   `-- NotFoundError      no such job, item or image
    |-- LedgerError            the SQL ledger
    |   |-- StaleTransition    a row was not in the state the writer expected
    |   |-- LeaseLost          the task belongs to somebody else by now
    |   |-- LedgerUnavailable  cannot be opened, reached or written
    |   |-- SearchTimeout      a search that took too long was ended
    |   |-- ShardDamaged       a shard of items cannot be read
    |   `-- SchemaMismatch     made by a newer program, or not ours
    |-- BrokerUnavailable      the broker cannot be reached, or refuses
    |-- ObjectError            the object store
    |   |-- ObjectMissing      no object under that key
    |   |-- ObjectExists       another object under that key, which was not to be replaced
    |   |-- StoreFull          no space left
    |   `-- StoreUnavailable   cannot be reached, read or written
    `-- RenderError            the engine
        |-- OutOfMemory        the device has too little memory; a smaller step may do
        |-- DeviceLost         the device or its driver is unusable: the worker's fault
        |-- ModelUnusable      weights missing, damaged or refused
        |-- OutputUnusable     this worker cannot make the files the job asks for
        |-- InputUnusable      an item's input picture is missing, damaged or refused
        `-- Interrupted        told to stop; not a failure

The docstring of a class is its default message; adapters translate their drivers' errors at
the border with ``raise ... from``.
"""

from __future__ import annotations

from typing import ClassVar


class RendermillError(Exception):
    """Something went wrong."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        """`message` says what is wrong; `hint` says what to do next."""
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.hint = hint
        super().__init__(self.message)


class InputError(RendermillError):
    """The input cannot be used."""

    exit_code = 2


class ModelError(InputError):
    """The model cannot be found or used."""


class SettingError(InputError):
    """A setting is wrong."""


class QueryError(InputError):
    """The query cannot be understood."""


class NotFoundError(InputError):
    """There is no such thing in the catalog."""


class ManifestError(InputError):
    """The manifest has problems; nothing was written."""


class LedgerError(RendermillError):
    """The ledger refused."""


class StaleTransition(LedgerError):
    """The row was no longer in the state this step starts from."""


class LeaseLost(LedgerError):
    """The lease on this task has lapsed and its items went back to their group."""


class LedgerUnavailable(LedgerError):
    """The ledger cannot be opened or written."""


class SearchTimeout(LedgerError):
    """The search took too long and was ended."""


class ShardDamaged(LedgerError):
    """A shard of items is damaged."""


class SchemaMismatch(LedgerError):
    """The ledger was made by another version of the program."""


class BrokerUnavailable(RendermillError):
    """The broker cannot be reached."""


class ObjectError(RendermillError):
    """The object store refused."""


class ObjectMissing(ObjectError):
    """There is no object under that key."""


class ObjectExists(ObjectError):
    """There is another object under that key already."""


class StoreFull(ObjectError):
    """The object store has no space left."""


class StoreUnavailable(ObjectError):
    """The object store cannot be reached, read or written."""


class RenderError(RendermillError):
    """Rendering failed."""


class OutOfMemory(RenderError):
    """The device has too little free memory for this batch."""


class DeviceLost(RenderError):
    """The device or its driver stopped working; this process must end."""


class ModelUnusable(RenderError):
    """The model's files are missing, damaged or of a refused kind."""


class InputUnusable(RenderError):
    """An input picture of the item is missing, damaged or of a refused kind."""


class OutputUnusable(RenderError):
    """This worker cannot make the files that the job asks for."""


class Interrupted(RenderError):
    """Told to stop before the task was done; its items go back to their group."""
