"""Fetching a picture from a URL: bounded, and only from public addresses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from scheduler.service.fetching import REDIRECTS, FetchRules, fetch
from tests.services.told_server import Answer, ToldServer, told_server


@pytest.fixture
def server() -> Iterator[ToldServer]:
    with told_server() as running:
        yield running


def rules(**changes: Any) -> FetchRules:
    given: dict[str, Any] = {"max_bytes": 1000, "seconds": 10.0, "any_address": True}
    return FetchRules(**(given | changes))


def at(server: ToldServer, path: str = "/cat.png") -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def refused(url: str, **changes: Any) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - what it says is what is tested
        fetch(url, rules(**changes))
    return str(caught.value)


def test_what_lies_there_is_fetched(server: ToldServer) -> None:
    server.answers = [Answer(body=b"picture")]

    assert fetch(at(server, "/cat.png?size=2"), rules()) == b"picture"

    (asked,) = server.asked
    assert (asked.method, asked.path) == ("GET", "/cat.png?size=2")
    assert asked.headers["Host"] == f"127.0.0.1:{server.server_port}"
    assert "Authorization" not in asked.headers


def test_redirects_are_followed_a_few_times(server: ToldServer) -> None:
    moved = Answer(status=302, headers={"Location": "/there.png"})
    server.answers = [*[moved] * REDIRECTS, Answer(body=b"picture")]
    assert fetch(at(server), rules()) == b"picture"
    assert server.asked[-1].path == "/there.png"

    server.answers = [moved]
    assert "more than 3 times" in refused(at(server))


def test_a_redirect_elsewhere_is_judged_anew(server: ToldServer) -> None:
    server.answers = [Answer(status=301, headers={"Location": "file:///etc/passwd"})]

    assert refused(at(server)) == "it does not start with https:// or http://"


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.9", "169.254.169.254", "0.0.0.0"),
        *("[::1]", "[fe80::1]", "[fd00:ec2::254]", "[::ffff:10.0.0.1]", "100.100.100.200"),
    ],
)
def test_private_addresses_are_refused_by_default(host: str) -> None:
    said = refused(f"http://{host}/a.png", any_address=False)

    assert said.startswith("is not fetched: ")
    assert "RENDERMILL_URLS_ANY_ADDRESS=1" in said


def test_a_public_address_may_be_asked() -> None:
    """Judged, not asked: nothing of this machine leads out of it."""
    from ipaddress import ip_address

    from scheduler.loops.webhook_rules import why_private

    assert why_private(ip_address("93.184.216.34")) is None
    assert why_private(ip_address("2606:2800:220:1::1")) is None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(status=404), "answered 404"),
        (Answer(status=500), "answered 500"),
        (Answer(status=204), "answered 204"),
        (Answer(body=b"x" * 1001), "has 1,001 bytes; the limit is 1,000 (RENDERMILL_MAX_PICTURE"),
        (Answer(body=b"x" * 900, cut_after=300), "was cut off after 300 of 900 bytes"),
        (Answer(hang_up=True), "cannot be fetched: "),
        (Answer(status=302), "more than 3 times"),
    ],
    ids=range(7),
)
def test_answers_that_are_no_picture_are_refused(
    server: ToldServer, answer: Answer, said: str
) -> None:
    server.answers = [answer]

    assert said in refused(at(server))


def test_a_body_that_hides_its_length_is_cut_off_at_the_limit(server: ToldServer) -> None:
    endless = b"\r\n".join([b"3E8", b"x" * 1000] * 3)
    server.answers = [Answer(headers={"Transfer_Encoding": "chunked"}, body=endless)]

    assert "is too large; the limit is 1,000" in refused(at(server))


def test_who_says_nothing_is_left_when_the_time_is_up(server: ToldServer) -> None:
    server.answers = [Answer(silent=True)]

    said = refused(at(server), seconds=0.3)

    assert said == "was not fetched within 0.3 s (RENDERMILL_MAX_PICTURE_SECONDS)"
    assert not [one for one in threading.enumerate() if isinstance(one, threading.Timer)]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/a.png", "does not start with https:// or http://"),
        ("http://user:secret@host/a.png", "holds credentials"),
        ("http:///a.png", "names no host"),
        ("http://host:port/a.png", "is not a URL"),
        ("http://127.0.0.1:9/a b.png", "characters that URLs do not have"),
        ("http://" + "a" * 70 + "/x.png", "holds no name of a host"),
        ("http://127.0.0.1:9/a.png", "cannot be fetched"),
    ],
    ids=range(7),
)
def test_addresses_that_lead_nowhere_are_refused(url: str, said: str) -> None:
    assert said in refused(url)
