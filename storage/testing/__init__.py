"""Shipped helpers for tests: factories with sensible values, and a clock that obeys."""
