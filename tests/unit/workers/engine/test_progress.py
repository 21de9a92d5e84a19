"""Long loads are told of while the process works, and not while it hangs."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator

import pytest

from workers.engine.progress import BYTES, telling, work_done

LONG = 30.0  # seconds, for a test that would fail


def test_a_load_that_works_is_told_of_again_and_again() -> None:
    told, thrice = itertools.count(1), threading.Event()

    def tell() -> None:
        if next(told) == 3:
            thrice.set()

    with telling(tell, seconds=0.001, work=_each(2.0)):
        assert thrice.wait(LONG)


def test_a_load_that_hangs_is_told_of_once() -> None:
    told: list[None] = []
    looks, many = itertools.count(), threading.Event()

    def work() -> float:
        if next(looks) == 20:
            many.set()
        return 5.0

    with telling(lambda: told.append(None), seconds=0.001, work=work):
        assert many.wait(LONG)

    assert len(told) == 1


def test_what_telling_raises_in_the_other_thread_does_not_end_the_watch() -> None:
    told, again = itertools.count(), threading.Event()

    def tell() -> None:
        if (number := next(told)) == 3:
            again.set()
        if number:
            raise RuntimeError("the lease is lost")

    with telling(tell, seconds=0.001, work=_each(1.0)):
        assert again.wait(LONG)


def test_a_lost_lease_ends_the_load_before_it_begins() -> None:
    def tell() -> None:
        raise RuntimeError("the lease is lost")

    with pytest.raises(RuntimeError, match="the lease is lost"), telling(tell):
        pytest.fail("it began")


def test_reading_and_computing_count_as_work() -> None:
    before = work_done()
    with open("/dev/zero", "rb") as stream:
        for _ in range(64):
            stream.read(BYTES)

    assert work_done() - before >= 1


def _each(step: float) -> Callable[[], float]:
    numbers: Iterator[float] = itertools.count(0.0, step)
    return lambda: next(numbers)
