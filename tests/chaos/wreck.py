"""A farm that things happen to: striking its processes and services, and setting them up again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from storage.broker.tickets import Tickets
from storage.contract.errors import BrokerUnavailable, LedgerError
from tests.chaos.faults import Fault, Victim
from tests.chaos.points import Points
from tests.chaos.services import Broker, Service, Services, services
from tests.services.farm import Farm

LEASE_SECONDS: Final = 6.0
"""Of tasks in tests, so that a lapse need not be waited for; the shortest else is a minute."""

SILENT_SECONDS: Final = 8.0
"""After which a worker of another machine is taken for gone."""

POINT_SECONDS: Final = 8.0
"""How long a random run waits for somebody to get to a point; there may be nothing to do."""

_MARK: Final = "CHAOS_POINTS"


@dataclass(kw_only=True)
class Wreck:
    """The farm with its services, and how each of its programs is started."""

    farm: Farm
    services: Services
    points: Points
    lease_seconds: float  #: of every task
    point_seconds: float = POINT_SECONDS
    missed: int = 0  #: faults at points that nobody got to in time
    _starts: dict[str, Callable[[], object]] = field(default_factory=dict)
    _asleep: list[tuple[float, psutil.Process]] = field(default_factory=list)
    _restarts: dict[Service, Future[None]] = field(default_factory=dict)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(3))

    def keep(self, name: str, start: Callable[[], object]) -> None:
        """Start a program, and again whenever it has ended, as an init system would."""
        self._starts[name] = start
        start()

    def revive(self) -> None:
        """Start what has ended; wake whose time has come."""
        for service in [one for one, again in self._restarts.items() if again.done()]:
            self._restarts.pop(service).result()
        for name, start in self._starts.items():
            process = self.farm.programs.get(name)
            if process is None or process.poll() is not None:
                start()
        for due in [one for one in self._asleep if one[0] <= time.monotonic()]:
            self._asleep.remove(due)
            with suppress(psutil.NoSuchProcess):
                due[1].resume()

    def mend(self) -> None:
        """Set everything right again: services up, whoever sleeps awake."""
        self._asleep = [(0.0, process) for _, process in self._asleep]
        self.await_services()

    def await_services(self) -> None:
        """Until those that were killed are up again."""
        futures.wait(self._restarts.values())
        self.revive()

    def strike(self, fault: Fault) -> bool:
        """Let it happen; False if nobody got to the fault's point, or there was no such victim."""
        if fault.point is None:
            return self._hit(fault, None)
        with self.points.hold(fault.point, self.point_seconds, self.revive) as held:
            if held is None:
                self.missed += 1
                return False
            return self._hit(fault, held)

    def spare_tickets(self) -> None:
        """A ticket for each class, for which there may be no work."""
        tickets = Tickets(self.services.broker.url)
        tickets.publish(dict.fromkeys(("cpu", "gpu8", "gpu24"), 1))
        tickets.close()

    def outcomes(self) -> int | None:
        """Items that have one; None while the ledger cannot be asked."""
        with suppress(LedgerError):
            ((count,),) = self.farm.query("SELECT coalesce(sum(done + failed), 0) FROM jobs")
            return int(count)
        return None

    def _hit(self, fault: Fault, held: int | None) -> bool:
        match fault.victim:
            case Victim.BROKER:
                return self._restart(self.services.broker, fault.down)
            case Victim.DATABASE:
                return self._restart(self.services.database, fault.down)
            case Victim.STORE:
                return self._restart(self.services.store, fault.down)
            case Victim.TICKETS:
                return self._purge()
            case Victim.SCHEDULER:
                self.farm.kill("scheduler")
                return True
            case _:
                return self._hit_worker(fault, held)

    def _hit_worker(self, fault: Fault, held: int | None) -> bool:
        name = self._worker_of(held) or self._picked(fault.pick)
        if fault.victim is Victim.WORKER:
            self.farm.kill(name)
            return True
        found = _member(self.farm.tree(name), fault.victim)
        if found is None:
            return False
        with suppress(psutil.NoSuchProcess):
            if fault.victim is Victim.FROZEN:
                found.suspend()
                self._asleep.append((time.monotonic() + self.lease_seconds + 3.0, found))
            else:
                found.kill()
        return True

    def _worker_of(self, held: int | None) -> str | None:
        if held is None:
            return None
        workers = (name for name in self._starts if name != "scheduler")
        return next((n for n in workers if held in (p.pid for p in self.farm.tree(n))), None)

    def _picked(self, pick: float) -> str:
        workers = sorted(name for name in self.farm.programs if name != "scheduler")
        return workers[int(pick * len(workers))]

    def _restart(self, service: Service, down: float) -> bool:
        """Kill a service; beside what else happens it starts again, which takes it a while."""
        if service in self._restarts:
            return False  # it is down already
        service.kill()

        def start() -> None:
            time.sleep(down)  # the length of the outage is part of the plan
            service.start()

        self._restarts[service] = self._threads.submit(start)
        return True

    def _purge(self) -> bool:
        tickets = Tickets(self.services.broker.url)
        try:
            tickets.purge()
        except BrokerUnavailable:
            return False
        finally:
            tickets.close()
        return True

    def close(self) -> None:
        """End every process that was ever started here, also those that lost their parents."""
        self._threads.shutdown()
        self.farm.close()
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(_MARK) == str(self.points.folder):
                    process.kill()


@contextmanager
def wreck_of(folder: Path, broker: Broker, lease_seconds: float = LEASE_SECONDS) -> Iterator[Wreck]:
    """A farm over services of its own, ready to be struck; all ends with the block."""
    points = Points(folder / "points")
    with services(folder / "services", broker) as running:
        environment = running.environment | points.environment
        environment |= {
            "CHAOS_LEASE_SECONDS": str(lease_seconds),
            "CHAOS_SILENT_SECONDS": str(SILENT_SECONDS),
        }
        wreck = Wreck(
            farm=Farm(folder / "farm", environment),
            services=running,
            points=points,
            lease_seconds=lease_seconds,
        )
        try:
            wreck.farm.run("init")
            wreck.keep("scheduler", lambda: wreck.farm.start("scheduler", "scheduler"))
            yield wreck
        finally:
            wreck.close()


def _member(tree: list[psutil.Process], victim: Victim) -> psutil.Process | None:
    signs = {
        Victim.SUPERVISOR: "supervise",
        Victim.PARENT: "consume",
        Victim.CHILD: "spawn_main",
        Victim.FROZEN: "spawn_main",
    }
    sign = signs.get(victim)
    if sign is None:
        return tree[0] if tree else None
    for process in tree:
        with suppress(psutil.Error):
            if any(sign in part for part in process.cmdline()):
                return process
    return None
