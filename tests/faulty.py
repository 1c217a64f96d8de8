"""A wire with faults: an HTTP proxy that hands requests on to a server, and spoils the answers that a test names.

with FaultyProxy(server_url) as wire:
    wire.spoil("cut", "503", method="GET")      # the next two GETs, in this order
"""

from __future__ import annotations

import http.client
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Literal
from urllib.parse import urlsplit

__all__ = ["FAULTS", "Fault", "FaultyProxy"]

Fault = Literal["500", "503", "slow", "drop", "cut", "short", "lost", "busy", "denied"]

FAULTS: Final[tuple[Fault, ...]] = ("500", "503", "slow", "drop", "cut", "short")
"""What may happen to any request: two answers of a server in trouble; an answer that comes after `SLOW` seconds; the
connection dropped without an answer; cut in the middle of the body; half of a body with a length that fits. `lost`,
besides: the server does what it is asked, and its answer is lost. `busy` and `denied`: it answers a DeleteObjects
well, but has not removed one of the keys."""

SLOW: Final = 3.0
_HOP: Final = ("connection", "keep-alive", "transfer-encoding", "expect")
_BUSY: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>Reduce your request rate.</Message></Error>'
)


_PARTLY: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?><DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Error><Key>a'
    b"</Key><Code>%s</Code><Message>Not this one.</Message></Error></DeleteResult>"
)


@dataclass
class _Planned:
    fault: Fault
    method: str | None


class FaultyProxy:
    """The proxy. `url` is what clients talk to; `seen` has the method and path of every request."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.seen: list[tuple[str, str]] = []
        self._planned: deque[_Planned] = deque()
        self._always: Fault | None = None
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> FaultyProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def spoil(self, *faults: Fault, method: str | None = None) -> None:
        """Spoil the next requests, in this order; only those of a method, if one is given."""
        with self._lock:
            self._planned.extend(_Planned(fault, method) for fault in faults)

    def spoil_always(self, fault: Fault | None) -> None:
        """Spoil every request, or none any more."""
        self._always = fault

    @property
    def unused(self) -> int:
        """Faults that no request has met yet."""
        return len(self._planned)

    def fault(self, method: str, path: str) -> Fault | None:
        """What happens to a request."""
        with self._lock:
            self.seen.append((method, path))
            for planned in self._planned:
                if planned.method in (None, method):
                    self._planned.remove(planned)
                    return planned.fault
        return self._always


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultyProxy
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        fault = self.proxy.fault(self.command, self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault in ("500", "503"):
            code = b"SlowDown" if fault == "503" else b"InternalError"
            self._answer(int(fault), [("Content-Type", "application/xml")], _BUSY % code)
            return
        if fault in ("busy", "denied"):
            code = b"SlowDown" if fault == "busy" else b"AccessDenied"
            self._answer(200, [("Content-Type", "application/xml")], _PARTLY % code)
            return
        if fault == "slow":
            time.sleep(SLOW)
        if fault == "drop":
            self.close_connection = True
            return
        status, headers, answer = self._ask(body)
        if fault == "lost":
            self.close_connection = True
        elif fault in ("cut", "short") and len(answer) > 1 and self.command != "HEAD":
            self._spoiled(fault, status, headers, answer)
        elif fault in ("cut", "short"):
            self.close_connection = True
        else:
            self._answer(status, headers, answer)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP:
                    connection.putheader(name, value)  # `Host` too, which the signature covers
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _spoiled(self, fault: Fault, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        half = body[: len(body) // 2]
        if fault == "short":
            self._answer(status, headers, half)
            return
        self._head(status, headers, len(body))
        self.wfile.write(half)
        self.close_connection = True

    def _answer(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        self._head(status, headers, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, headers: Iterable[tuple[str, str]], length: int) -> None:
        self.send_response_only(status)
        named = False
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                named = True
                self.send_header(name, value)
            elif name.lower() not in (*_HOP, "content-length"):
                self.send_header(name, value)
        if not named and status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - http.server's names

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: tests look at `seen`."""
