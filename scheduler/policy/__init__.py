"""The claim policy: who claims what and how much, and whom to wake for it.

Pure: plain values in, a plain value out; time comes as an argument. `choose` is called inside
the claim's transaction by every worker, and by the simulator.
"""

from scheduler.policy.choice import choose
from scheduler.policy.chunks import MAX_TASK_ITEMS, TARGET_SECONDS, TRIAL_SECONDS
from scheduler.policy.level import STARVING_SECONDS
from scheduler.policy.reasons import explain
from scheduler.policy.speeds import (
    MAX_LEASE_SECONDS,
    MIN_LEASE_SECONDS,
    allowed_fit,
    expected_seconds,
    lease_seconds,
    smoothed,
)
from scheduler.policy.tickets import TICKETS_PER_WORKER, tickets_wanted

__all__ = [
    "MAX_LEASE_SECONDS",
    "MAX_TASK_ITEMS",
    "MIN_LEASE_SECONDS",
    "STARVING_SECONDS",
    "TARGET_SECONDS",
    "TICKETS_PER_WORKER",
    "TRIAL_SECONDS",
    "allowed_fit",
    "choose",
    "expected_seconds",
    "explain",
    "lease_seconds",
    "smoothed",
    "tickets_wanted",
]
