"""The language people search the catalog in: read here, answered by the ledger."""
