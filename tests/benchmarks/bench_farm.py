"""What the farm costs and what it can do, on real PostgreSQL, RabbitMQ and Redis.

    python -m tests.benchmarks.bench_farm [MEASUREMENT ...] [--rounds 3] [--images-each 400]

Brokers are started for the run on ports of their own; the databases are new ones on the local
PostgreSQL (or that of TEST_POSTGRES_URL). Prints Markdown. What is compared takes turns in one
run, so that the ratios hold on a machine that others use too; single figures do not.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable

from tests.benchmarks.farm.losing import losing
from tests.benchmarks.farm.parts import Services, services
from tests.benchmarks.farm.scaling import scaling
from tests.benchmarks.farm.throughput import orchestration, throughput
from tests.benchmarks.farm.tickets import tickets


def main() -> None:
    """Measure what was asked for, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measurements", nargs="*", metavar="MEASUREMENT", help=", ".join(_NAMES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images-each", type=int, default=400, help="scaling: for each worker")
    options = parser.parse_args()
    if unknown := set(options.measurements) - set(_NAMES):
        parser.error(f"no measurement {', '.join(unknown)}; there are {', '.join(_NAMES)}")
    measures: dict[str, Callable[[Services], None]] = {
        "tickets": lambda on: tickets(on, options.rounds),
        "throughput": lambda on: throughput(on, options.rounds),
        "orchestration": lambda on: orchestration(on, options.rounds),
        "losing": lambda on: losing(on, options.rounds),
        "scaling": lambda on: scaling(on, options.images_each),
    }
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended
    with services() as running:
        for name in options.measurements or _NAMES:
            print(f"\n### {name}\n", flush=True)
            measures[name](running)


_NAMES = ("tickets", "throughput", "orchestration", "losing", "scaling")

if __name__ == "__main__":
    main()
