"""Turns manifests into claimable work, keeps it moving, and answers questions about it."""
