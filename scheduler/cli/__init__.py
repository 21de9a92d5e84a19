"""The command line: one skin on the use cases. Loads no torch."""
