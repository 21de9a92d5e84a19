"""The ledger: SQL tables, migrations, and one module per subject."""
