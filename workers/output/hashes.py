"""Fingerprints of what is rendered; the importer of pictures takes the same."""

from __future__ import annotations

from storage.hashes import perceptual_hash, pixels_sha256

__all__ = ["perceptual_hash", "pixels_sha256"]
