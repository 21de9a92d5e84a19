"""An HTTP server that says what a test tells it to, right or wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server says to one request."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None  #: bytes of the body that come through before it hangs up
    silent: bool = False  #: nothing is said for as long as the test lasts
    hang_up: bool = False  #: the request is heard, and the connection closed without a word


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


def refusal(status: int, code: str, message: str = "as told", **headers: str) -> Answer:
    """An error as S3 says it."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return Answer(status=status, body=body, headers=headers)


class ToldServer(ThreadingHTTPServer):
    """Gives `answers` one by one, the last for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer] = []
        self.asked: list[Asked] = []
        self.over = threading.Event()
        self._lock = threading.Lock()

    def next_answer(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @property
    def methods(self) -> list[str]:
        return [one.method for one in self.asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ToldServer

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(
            method=self.command, path=self.path, headers=dict(self.headers.items()), body=body
        )
        answer = self.server.next_answer(asked)
        if answer.silent or answer.hang_up:
            self.server.over.wait(None if answer.silent else 0)
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: answer.cut_after])
        self.close_connection = answer.cut_after is not None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def log_message(self, *_: Any) -> None:
        """Quietly."""


@contextmanager
def told_server() -> Iterator[ToldServer]:
    """A running server."""
    server = ToldServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
