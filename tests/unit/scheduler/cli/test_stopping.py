from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from scheduler.cli.stopping import stop_on_signals


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_hurries(number: signal.Signals) -> None:
    heard: list[bool] = []
    stop = stop_on_signals(heard.append)
    assert not stop.is_set()

    signal.raise_signal(number)
    signal.raise_signal(signal.SIGINT)

    assert stop.is_set()
    assert heard == [False, True]


def test_sigquit_hurries_at_once() -> None:
    heard: list[bool] = []
    stop = stop_on_signals(heard.append)

    signal.raise_signal(signal.SIGQUIT)

    assert (stop.is_set(), heard) == (True, [True])
