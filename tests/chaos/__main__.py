"""A long chaotic run: ``python -m tests.chaos --minutes 10 --items 10000 --broker redis --seed 1``.

Something is killed, frozen or emptied every few seconds; at the end every item must have one
outcome. The seed decides what happens, and is printed.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from tests.chaos import faults, run
from tests.chaos.services import BROKERS
from tests.chaos.wreck import wreck_of

_BUSY = 0.45
"""The share of the time that workers are expected to get for rendering."""


def main() -> None:
    """Run once."""
    options = _parser().parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)  # also where they were ignored: everything is to be ended
    for name in [name for name in os.environ if name.startswith("RENDERMILL_")]:
        del os.environ[name]
    seconds = options.minutes * 60
    per_image = seconds * len(run.WORKERS) * _BUSY / options.items
    _say(f"{options.broker}, seed {options.seed}, {per_image:.3f} s an image")
    with (
        tempfile.TemporaryDirectory(prefix="rendermill-chaos-") as folder,
        wreck_of(Path(folder), options.broker, options.lease) as wreck,
    ):
        os.environ.update(wreck.services.environment)  # the checks read the store
        run.start_workers(wreck, per_image)
        run.submit(wreck, options.items)
        plan = faults.at_random(options.seed, options.pause)
        try:
            report = run.run(wreck, plan, items=options.items, seconds=seconds, told=_say)
        except BaseException:
            _say(wreck.farm.said())
            _say(f"seed {options.seed}")
            raise
    _say(f"{options.broker}, seed {options.seed}: {report}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--broker", choices=BROKERS, default="rabbitmq")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between faults")
    parser.add_argument("--lease", type=float, default=20.0, help="seconds a lease lasts")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    return parser


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
