from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from storage.contract.errors import SettingError
from workers.notice import watch_for_notice
from workers.stopping import Stop


class Machine(http.server.ThreadingHTTPServer):
    """A metadata service that gives notice once it is told to."""

    notice = False


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Machine)
        self.send_response(200 if self.server.notice else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_notice_drains_the_worker(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.notice.LOOK_SECONDS", 0.02)
    stop = Stop()
    watch_for_notice(f"http://127.0.0.1:{machine.server_port}/notice", stop, 60)
    assert not stop.wait(0.1)
    machine.notice = True
    assert stop.wait(10)
    assert (stop.overdue, stop.why) == (False, "the machine is about to be taken away")


def test_a_source_nobody_knows_is_refused() -> None:
    with pytest.raises(SettingError, match="aws, gcp, or a URL"):
        watch_for_notice("moon", Stop(), 1)
