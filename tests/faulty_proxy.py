"""A proxy on the loopback interface between rmer and a tracking server, which does harm on purpose.

    with faulty_proxy(server.uri, [Fault("lose", path="runs/create", times=1)]) as proxy:
        connect(proxy.uri)

A call is harmed by the first fault that applies to it. What is drawn depends on the seed, the call's method
and path, and how often that was called, not on the order in which threads come.
"""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BEFORE = ("status", "drop")  # the server never sees the call; otherwise it does what it is asked
OF_ONE_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}
SERVER_SECONDS = 60.0


@dataclass(frozen=True)
class Fault:
    """Harm to calls of one kind.

    ``kind``: ``status`` answers ``status`` and does not pass the call on, ``drop`` closes the connection
    instead; ``lose`` passes the call on and closes the connection instead of answering, ``late`` then answers
    ``status``, ``cut`` half of the answer.
    ``path`` is a part of the calls' path ("" of all), ``share`` of such calls are harmed, at most ``times``.
    """

    kind: str
    path: str = ""
    share: float = 1.0
    times: int | None = None
    status: int = 500


@dataclass(frozen=True)
class Call:
    """What was called, and the kind of harm that came to it ("" none)."""

    method: str
    path: str
    fault: str


class FaultyProxy:
    """A running proxy: ``uri`` is its address, ``calls`` what was called; ``faults`` may be changed."""

    def __init__(self, target: str, faults: Sequence[Fault] = (), seed: int = 0) -> None:
        self.faults, self.seed = tuple(faults), seed
        self.calls: list[Call] = []
        self.host, self.port = urlsplit(target).hostname or "", urlsplit(target).port or 80
        self._seen: Counter[tuple[str, str]] = Counter()
        self._done: Counter[Fault] = Counter()
        self._lock = threading.Lock()
        self._listener = _Listener(("127.0.0.1", 0), _Handler)
        self._listener.proxy = self
        self.uri = f"http://127.0.0.1:{self._listener.server_address[1]}"
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def harmed(self) -> Counter[str]:
        """Return how many calls were harmed, by kind."""
        with self._lock:
            return Counter(call.fault for call in self.calls if call.fault)

    def choose(self, method: str, path: str) -> Fault | None:
        """Return what is to be done to a call, and take note of it."""
        with self._lock:
            self._seen[method, path] += 1
            draw = random.Random(f"{self.seed} {method} {path} {self._seen[method, path]}")
            fault = next((fault for fault in self.faults if self._applies(fault, path, draw)), None)
            if fault is not None:
                self._done[fault] += 1
            self.calls.append(Call(method, path, fault.kind if fault else ""))
            return fault

    def close(self) -> None:
        """Stop listening."""
        self._listener.shutdown()
        self._listener.server_close()

    def _applies(self, fault: Fault, path: str, draw: random.Random) -> bool:
        used_up = fault.times is not None and self._done[fault] >= fault.times
        return fault.path in path and not used_up and draw.random() < fault.share


@contextmanager
def faulty_proxy(target: str, faults: Sequence[Fault] = (), seed: int = 0) -> Iterator[FaultyProxy]:
    """Run a proxy before the server at ``target`` for the length of a block."""
    proxy = FaultyProxy(target, faults, seed)
    try:
        yield proxy
    finally:
        proxy.close()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    proxy: FaultyProxy

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that were killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.proxy.choose(self.command, urlsplit(self.path).path)
        if fault is None:
            self._answer(*self._pass_on(body))
        elif fault.kind in BEFORE:
            self._harm(fault)
        else:
            self._harm(fault, *self._pass_on(body))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _handle

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep quiet."""

    def _harm(
        self, fault: Fault, status: int = 0, content: bytes = b"", headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        if fault.kind in ("status", "late"):
            self._answer(fault.status, b"harmed on purpose", [("Content-Type", "text/plain")])
            return
        if fault.kind == "cut":
            self._answer(status, content, headers, sent=len(content) // 2)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _pass_on(self, body: bytes) -> tuple[int, bytes, list[tuple[str, str]]]:
        """Return status, content and headers of the server's answer; 502 where there is none."""
        connection = HTTPConnection(self.server.proxy.host, self.server.proxy.port, timeout=SERVER_SECONDS)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in OF_ONE_HOP}
        try:
            connection.request(self.command, self.path, body, headers)
            answer: HTTPResponse = connection.getresponse()
            return answer.status, answer.read(), answer.getheaders()
        except (OSError, HTTPException) as error:
            return 502, str(error).encode(), []
        finally:
            connection.close()

    def _answer(
        self, status: int, content: bytes, headers: Sequence[tuple[str, str]], sent: int | None = None
    ) -> None:
        """Answer; of ``content``, whose whole length is announced, only ``sent`` bytes where given."""
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in OF_ONE_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:sent])
        self.wfile.flush()
