"""What became of an item, and why an attempt failed, in a closed set of words."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """How an item ended. Every item ends in exactly one of these."""

    RENDERED = "rendered"
    FAILED = "failed"


class Reason(StrEnum):
    """Why an item failed, or why an attempt did not finish its task."""

    NAN = "nan"  #: latents or pixels were not finite, in float32 too
    CONSTANT = "constant"  #: every pixel had the same value, in float32 too
    OUT_OF_MEMORY = "out-of-memory"  #: no mode left that fits
    MODEL = "model"  #: the model's files are missing, damaged or refused
    CRASHED = "crashed"  #: the process died while it rendered this
    LAPSED = "lapsed"  #: the worker was not heard from
    ERROR = "error"  #: any other exception; the detail says which


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One failed attempt at a range of items, as kept on that range until it is settled."""

    reason: Reason
    detail: str
    worker_id: int
    at: float  #: seconds since the epoch
    items: int = 1  #: that were undone when it happened; written by the ledger


#: Failed attempts with blame after which an item that stands alone is given up.
MAX_ATTEMPTS = 3

#: A lapse may be nobody's fault (power cut, network), so it takes more of them.
MAX_LAPSES = 10


#: Reasons that may lie with one item of a range, so that halving finds it.
DIVISIBLE = frozenset({Reason.CRASHED, Reason.ERROR})


def exhausted(failures: tuple[Failure, ...], items: int) -> bool:
    """Whether a range of `items` has failed often enough to be recorded as failed.

    An item is never given up for what happened while it had neighbours: one of those may have
    been the culprit. What concerns all of a range alike (the model, the memory) counts always.
    """
    common = [one for one in failures if one.reason not in (*DIVISIBLE, Reason.LAPSED)]
    alone = [one for one in failures if one.reason in DIVISIBLE and one.items == 1]
    lapses = [one for one in failures if one.reason is Reason.LAPSED and one.items == 1]
    attempts = len(common) + len(alone)
    return attempts >= MAX_ATTEMPTS or (items == 1 and len(lapses) >= MAX_LAPSES)


def summary(failures: tuple[Failure, ...]) -> str:
    """All attempts in one text, newest last, for the detail of a failed item."""
    return "; ".join(
        f"attempt {number} (worker {one.worker_id}): {one.reason}: {one.detail}"
        for number, one in enumerate(failures, 1)
    )
