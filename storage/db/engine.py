"""The ledger and its openings, in one place for those who use them."""

from storage.db.ledger import Ledger
from storage.db.postgres import open_postgres
from storage.db.sqlite import open_sqlite

__all__ = ["Ledger", "open_postgres", "open_sqlite"]
