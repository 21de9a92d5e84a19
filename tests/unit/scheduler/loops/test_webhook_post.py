"""One attempt: what the receiver gets, and what counts as received."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from scheduler.loops.webhook_post import HookSettings, post, read_hook_settings
from scheduler.loops.webhook_rules import sign
from storage.contract.errors import SettingError
from storage.db.deliveries import Delivery
from tests.services.told_server import Answer, ToldServer, told_server

SIGNED = HookSettings(secret="hush-hush")
BRIEF = HookSettings(timeout_seconds=0.5)


@pytest.fixture
def server() -> Iterator[ToldServer]:
    with told_server() as running:
        yield running


def to(url: str) -> Delivery:
    return Delivery(
        id=7,
        job_id=1,
        event="job.done",
        url=url,
        body='{"job":"é"}',
        attempts=0,
        next_at=1.0,
        delivered_at=None,
        error=None,
    )


def at(server: ToldServer, path: str = "/hook?a=1") -> Delivery:
    return to(f"http://127.0.0.1:{server.server_port}{path}")


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_receiver_gets_the_body_its_kind_its_number_and_a_signature(
    server: ToldServer, status: int
) -> None:
    server.answers = [Answer(status=status)]
    before = int(time.time())

    assert post(at(server), SIGNED) is None

    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/hook?a=1")
    assert asked.body.decode() == '{"job":"é"}'
    assert asked.headers["Host"] == f"127.0.0.1:{server.server_port}"
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.headers["X-Rendermill-Event"] == "job.done"
    assert asked.headers["X-Rendermill-Delivery"] == "7"
    timestamp = int(asked.headers["X-Rendermill-Timestamp"])
    assert before <= timestamp <= time.time()
    assert asked.headers["X-Rendermill-Signature"] == sign("hush-hush", timestamp, asked.body)


def test_without_a_secret_nothing_is_signed(server: ToldServer) -> None:
    server.answers = [Answer()]
    assert post(at(server), HookSettings()) is None
    assert "X-Rendermill-Signature" not in server.asked[0].headers


@pytest.mark.parametrize(
    ("status", "said", "final"),
    [
        (400, "answered 400", False),
        (404, "answered 404", False),
        (410, "answered 410", True),
        (429, "answered 429", False),
        (500, "answered 500", False),
    ],
)
def test_a_receiver_that_refuses_is_tried_again_unless_it_is_gone(
    server: ToldServer, status: int, said: str, final: bool
) -> None:
    server.answers = [Answer(status=status)]
    fault = post(at(server), SIGNED)
    assert fault is not None
    assert (fault.text, fault.final) == (said, final)


def test_a_redirect_is_not_followed(server: ToldServer) -> None:
    elsewhere = f"http://127.0.0.1:{server.server_port}/elsewhere"
    server.answers = [Answer(status=302, headers={"Location": elsewhere})]
    fault = post(at(server), SIGNED)
    assert fault is not None
    assert "redirects are not followed" in fault.text
    assert len(server.asked) == 1


def test_a_receiver_that_never_answers_is_given_up_in_time(server: ToldServer) -> None:
    server.answers = [Answer(silent=True)]
    started = time.monotonic()
    fault = post(at(server), BRIEF)
    assert fault is not None
    assert fault.text == "no answer within 0.5 s"
    assert time.monotonic() - started < 5


def test_a_receiver_that_drips_its_answer_is_given_up_in_time() -> None:
    over = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 ")
            while not over.wait(0.05):
                try:
                    connection.sendall(b"O")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,))
        thread.start()
        started = time.monotonic()
        fault = post(to(f"http://127.0.0.1:{listening.getsockname()[1]}/"), BRIEF)
        over.set()
        thread.join()
    assert fault is not None
    assert fault.text == "no answer within 0.5 s"
    assert time.monotonic() - started < 5


def test_a_receiver_that_hangs_up_is_tried_again(server: ToldServer) -> None:
    server.answers = [Answer(hang_up=True)]
    fault = post(at(server), SIGNED)
    assert fault is not None
    assert fault.text.startswith("the connection failed")
    assert not fault.final


def test_a_receiver_that_is_not_there_is_tried_again() -> None:
    for url in ("http://127.0.0.1:1/", "http://no-such-host.invalid/"):
        fault = post(to(url), BRIEF)
        assert fault is not None
        assert "failed" in fault.text
        assert not fault.final


def test_a_receiver_without_the_promised_encryption_is_not_talked_to(server: ToldServer) -> None:
    server.answers = [Answer()]
    fault = post(to(f"https://127.0.0.1:{server.server_port}/"), SIGNED)
    assert fault is not None
    assert fault.text.startswith("no secure connection")
    assert server.asked == []


@pytest.mark.parametrize("url", ["ftp://host/", "not a url", f"http://{'x' * 70}.org/"])
def test_an_address_that_cannot_work_is_given_up_at_once(url: str) -> None:
    fault = post(to(url), SIGNED)
    assert fault is not None
    assert fault.final


def test_nothing_is_sent_to_a_metadata_service_whatever_name_it_is_given(
    server: ToldServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    fault = post(to("http://innocent.example/"), SIGNED)
    assert fault is not None
    assert fault.text == (
        "nothing is sent to innocent.example: 169.254.169.254 may be a cloud's metadata service"
    )


def test_the_address_that_was_judged_is_the_one_connected_to(
    server: ToldServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        looked_up.append(host)
        bad, good = ("169.254.169.254", port), ("127.0.0.1", server.server_port)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in (bad, good)]

    server.answers = [Answer()]
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert post(to("http://innocent.example/"), SIGNED) is None
    assert looked_up == ["innocent.example"]
    assert server.asked[0].headers["Host"] == "innocent.example"


def test_settings_are_read_and_the_secret_is_not_shown() -> None:
    assert read_hook_settings({}) == HookSettings()
    assert read_hook_settings({"RENDERMILL_WEBHOOK_SECRET": ""}).secret is None
    read = read_hook_settings(
        {"RENDERMILL_WEBHOOK_SECRET": "hush-hush", "RENDERMILL_WEBHOOK_ANY_ADDRESS": "1"}
    )
    assert (read.secret, read.any_address) == ("hush-hush", True)
    assert "hush" not in repr(read)
    with pytest.raises(SettingError, match="RENDERMILL_WEBHOOK_ANY_ADDRESS is 1 or 0, not 'yes'"):
        read_hook_settings({"RENDERMILL_WEBHOOK_ANY_ADDRESS": "yes"})
