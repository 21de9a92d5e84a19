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
    INPUT = "input"  #: a picture it is made from is missing or damaged
    MODEL = "model"  #: the model's files are missing, damaged or refused
    CRASHED = "crashed"  #: the process died while it rendered this
    LAPSED = "lapsed"  #: the worker was not heard from
    DEVICE = "device"  #: the worker's device was lost: the worker's failure, not the item's
    UNSAFE = "unsafe"  #: the safety checker flagged the picture, and the job drops such
    OUTPUT = "output"  #: the worker cannot make the files asked for; the detail says what it lacks
    ERROR = "error"  #: any other exception; the detail says which


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One failed attempt at a range of items, as kept on that range until it is settled."""

    reason: Reason
    detail: str
    worker_id: int
    at: float  #: seconds since the epoch
    worker: str = ""  #: its name, the same for a restarted process; written by the ledger
    items: int = 1  #: that were undone when it happened; written by the ledger
    first_item: int = -1  #: of those; written by the ledger

    @property
    def doer(self) -> str:
        """Who it was: names tell workers apart, and ids where there is no name."""
        return self.worker or f"worker {self.worker_id}"


#: Different workers that must have failed at an item that stands alone before it is given up.
MAX_WORKERS = 3

#: Attempts with blame it takes at least, also where fewer workers could make them.
MAX_ATTEMPTS = 3

#: Attempts with blame after which an item is given up whoever made them.
MOST_ATTEMPTS = 9

#: A lapse may be nobody's fault (power cut, network), so it takes more of them.
MAX_LAPSES = 10

#: How long a worker leaves what it failed at to those who have not tried yet.
YIELD_SECONDS = 600.0

#: Reasons that may lie with one item of a range, so that halving finds it.
DIVISIBLE = frozenset({Reason.CRASHED, Reason.ERROR})

#: Reasons that are not the items' fault, as far as anybody can tell.
BLAMELESS = frozenset({Reason.LAPSED, Reason.DEVICE})


def exhausted(failures: tuple[Failure, ...], items: int, *, able: int = 1) -> bool:
    """Whether a range of `items` has failed often enough to be recorded as failed.

    `able` is how many live workers could render it: three different ones must have failed, or
    all there are. An item is never given up for what happened while it had neighbours: one of
    those may have been the culprit. What concerns all of a range alike (the model, the memory)
    counts always.
    """
    attempts = [
        one
        for one in failures
        if one.reason not in BLAMELESS and (one.reason not in DIVISIBLE or one.items == 1)
    ]
    lapses = [one for one in failures if one.reason in BLAMELESS and one.items == 1]
    tried = len({one.doer for one in attempts})
    enough = len(attempts) >= MAX_ATTEMPTS and tried >= min(MAX_WORKERS, able)
    return enough or len(attempts) >= MOST_ATTEMPTS or (items == 1 and len(lapses) >= MAX_LAPSES)


def leaves_to_others(failures: tuple[Failure, ...], worker: str, *, able: int, now: float) -> bool:
    """Whether `worker` should leave a range with these failures to another.

    It should if it failed at it lately, and one of the `able` live workers has not tried yet.
    """
    failed = {one.doer: one.at for one in failures if one.reason is not Reason.LAPSED}
    if worker not in failed or now - failed[worker] > YIELD_SECONDS:
        return False
    return len(failed) < min(able, MAX_WORKERS)


def summary(failures: tuple[Failure, ...]) -> str:
    """All attempts in one text, newest last, for the detail of a failed item."""
    return "; ".join(
        f"attempt {number} ({one.doer}): {one.reason}: {one.detail}"
        for number, one in enumerate(failures, 1)
    )
