"""Notices that a spot machine is about to be taken away.

Clouds put them at an address only the machine itself can ask. What is asked is set by
``RENDERMILL_SPOT_NOTICE``: ``aws``, ``gcp``, or a URL that answers 200 once it is time to go.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Final

import structlog

from storage.contract.errors import SettingError
from workers.stopping import Stop

SPOT_NOTICE: Final = "RENDERMILL_SPOT_NOTICE"
LOOK_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 2.0

_AWS: Final = "http://169.254.169.254/latest"
_GCP: Final = "http://metadata.google.internal/computeMetadata/v1/instance/preempted"

log = structlog.get_logger()


def watch_for_notice(source: str, stop: Stop, grace: float) -> None:
    """Drain when there is a notice; looks from a thread of its own until then."""
    asks = _asker(source)

    def watch() -> None:
        while not stop.requested:
            if asks():
                log.warning("this machine will be taken away", action="notice", source=source)
                stop.drain(grace, "the machine is about to be taken away")
                return
            stop.wait(LOOK_SECONDS)

    threading.Thread(target=watch, name="notice", daemon=True).start()


def _asker(source: str) -> Callable[[], bool]:
    if source == "aws":
        return _aws_notice
    if source == "gcp":
        return lambda: _body(_GCP, {"Metadata-Flavor": "Google"}) == "TRUE"
    if source.startswith(("http://", "https://")):
        return lambda: _body(source) is not None
    raise SettingError(f"{SPOT_NOTICE} is {source!r}; it must be aws, gcp, or a URL")


def _aws_notice() -> bool:
    """AWS wants a token first, and answers 404 while there is no notice."""
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = _body(f"{_AWS}/api/token", lifetime, method="PUT")
    headers = {"X-aws-ec2-metadata-token": token} if token else {}
    return _body(f"{_AWS}/meta-data/spot/instance-action", headers) is not None


def _body(url: str, headers: dict[str, str] | None = None, *, method: str = "GET") -> str | None:
    """What is answered; None for any other answer than 200, or none at all."""
    asked = urllib.request.Request(url, headers=headers or {}, method=method)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked, timeout=_ANSWER_SECONDS) as answer:
            return str(answer.read(4096).decode(errors="replace").strip())
    except (OSError, urllib.error.URLError):
        return None
