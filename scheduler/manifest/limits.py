"""Limits on what a manifest may ask for. Each is a setting, and each error names it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds on rows and images; the environment variable is RENDERMILL_ and the field's name."""

    max_row_bytes: int = 1 << 20  #: of one line; of one record of a CSV file
    max_job_file_bytes: int = 64 << 20  #: a job file is held in memory; a manifest is not
    max_prompt_chars: int = 10_000  #: of a prompt or negative prompt
    max_tag_chars: int = 10_000  #: of one tag's value
    max_tags: int = 100  #: per row
    max_side: int = 8192  #: width or height in pixels
    max_steps: int = 1000
    max_images_per_row: int = 10_000  #: num_images times the sweep
    max_expansions_per_row: int = 10_000  #: combinations of a dynamic prompt
    max_wildcard_bytes: int = 64 << 20  #: of all files of wildcards together
    max_items: int = 1_000_000_000  #: of a job
    max_groups: int = 1_000_000  #: of a job
    max_adapters: int = 16  #: LoRAs, ControlNets or control images of a row
    max_picture_bytes: int = 64 << 20  #: of one input picture, as stored
    max_picture_pixels: int = 64 << 20  #: of one input picture
    max_picture_seconds: int = 30  #: to fetch one input picture from a URL


def exceeded(what: str, limit: int, setting: str) -> str:
    """The words for a limit that was passed."""
    return f"{what}; the limit is {limit:,} (RENDERMILL_{setting.upper()})"
