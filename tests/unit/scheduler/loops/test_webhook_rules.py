from __future__ import annotations

import hashlib
import hmac
import itertools
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.loops.webhook_rules import (
    ATTEMPTS,
    Target,
    next_attempt,
    parse_target,
    sign,
    why_refused,
)
from storage.contract.errors import InputError


@pytest.mark.parametrize(
    ("url", "expected", "host_header"),
    [
        (
            "https://example.org/hook?job=1",
            Target(secure=True, host="example.org", port=443, path="/hook?job=1"),
            "example.org",
        ),
        (
            "http://example.org",
            Target(secure=False, host="example.org", port=80, path="/"),
            "example.org",
        ),
        (
            "http://[::1]:8080/a",
            Target(secure=False, host="::1", port=8080, path="/a"),
            "[::1]:8080",
        ),
        (
            "http://10.0.0.7:443/#part",
            Target(secure=False, host="10.0.0.7", port=443, path="/"),
            "10.0.0.7:443",
        ),
    ],
)
def test_an_address_is_taken_apart(url: str, expected: Target, host_header: str) -> None:
    assert parse_target(url) == expected
    assert parse_target(url).host_header == host_header


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "does not start with"),
        ("ftp://host/", "does not start with"),
        ("file:///etc/passwd", "does not start with"),
        ("//host/path", "does not start with"),
        ("https://", "names no host"),
        ("https:///path", "names no host"),
        ("https://host:99999/", "not a URL"),
        ("https://[::1/", "not a URL"),
        ("https://user:hush@host/", "holds credentials"),
        ("https://host/a b", "characters"),
        ("https://host/é", "characters"),
        ("https://host/a\x7f", "characters"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(url: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        parse_target(url)
    assert caught.value.hint
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "::ffff:0.0.0.0",
    ],
)
def test_metadata_services_and_addresses_of_no_server_are_refused(address: str) -> None:
    assert why_refused(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "2606:2800:220:1::1", "10.1.2.3", "192.168.0.9", "127.0.0.1", "::1"],
)
def test_servers_of_the_net_and_of_the_house_are_not(address: str) -> None:
    assert why_refused(ip_address(address)) is None


def test_the_signature_is_one_that_a_receiver_can_compute() -> None:
    expected = hmac.new(b"secret", b'1700000000.{"a":1}', hashlib.sha256).hexdigest()
    assert sign("secret", 1_700_000_000, b'{"a":1}') == f"sha256={expected}"


def test_another_secret_time_or_body_signs_differently() -> None:
    signatures = {
        sign(secret, time, body)
        for secret in ("a", "b")
        for time in (1, 2)
        for body in (b"1", b"2")
    }
    assert len(signatures) == 8


@given(chance=st.floats(0, 1))
def test_the_pauses_double_and_the_last_attempt_is_about_a_day_after_the_first(
    chance: float,
) -> None:
    at, pauses = 0.0, []
    for attempts in range(1, ATTEMPTS):
        again = next_attempt(attempts, at, chance)
        assert again is not None
        pauses.append(again - at)
        at = again
    assert next_attempt(ATTEMPTS, at, chance) is None
    assert 9 <= pauses[0] <= 11
    assert all(b == pytest.approx(2 * a) for a, b in itertools.pairwise(pauses))
    assert 20 * 3600 < at < 26 * 3600


def test_chance_spreads_the_attempts() -> None:
    assert next_attempt(1, 100.0, 0.0) == 109.0
    assert next_attempt(1, 100.0, 1.0) == 111.0
