"""The transport: a threaded HTTP/1.1 server with limits on everything that a client controls.

Bytes of headers and body, time to send them, time to take the answer, number of connections; a client that goes away
is noticed while it waits. Knows nothing of models; `server` adds the routes.
"""

from __future__ import annotations

import io
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from planner.version import __version__


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bytes, seconds and counts; beyond them a client gets an error or is dropped."""

    header_bytes: int = 32 << 10
    body_bytes: int = 8 << 20
    receive_s: float = 15.0
    idle_s: float = 60.0
    send_s: float = 15.0
    connections: int = 512
    linger_s: float = 2.0
    linger_bytes: int = 64 << 20
    """After an error, so long and so much is still read: a client that is told off while it sends reads the answer."""


class HttpError(Exception):
    """An answer other than the one asked for: status, OpenAI's error object, extra headers."""

    def __init__(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(body)
        self.status, self.body, self.headers = status, body, headers or {}


class TooManyBytesError(Exception):
    """The client sent more than the stage of the request allows."""


class DeadlineReader(io.RawIOBase):
    """A socket as a raw stream with a deadline and a byte budget for each stage of a request."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self.deadline, self.budget = 0.0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the client is too slow")
        if self.budget <= 0:
            raise TooManyBytesError
        self._socket.settimeout(left)
        count = self._socket.recv_into(memoryview(buffer)[: max(1, self.budget)])
        self.budget -= count
        return count


class Server(ThreadingHTTPServer):
    """Bounded connections; handler threads do not hold up the end of the process."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], handler: type[Handler], limits: HttpLimits) -> None:
        self.limits = limits
        self._seats = threading.BoundedSemaphore(limits.connections)
        self._answers, self._change = 0, threading.Condition()
        super().__init__(address, handler)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """While a request is answered, to the last byte."""
        with self._change:
            self._answers += 1
        try:
            yield
        finally:
            with self._change:
                self._answers -= 1
                self._change.notify_all()

    def drained(self, timeout_s: float) -> bool:
        """Wait until nothing is being answered; False when `timeout_s` were not enough."""
        with self._change:
            return self._change.wait_for(lambda: self._answers == 0, timeout_s)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._seats.acquire(blocking=False):
            body = json.dumps(error_object("too many connections", "server_error")).encode()
            answer = (
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
            )
            request.setblocking(False)
            with _quiet():
                request.send(answer)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._seats.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._seats.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that vanish are no news."""


class Handler(BaseHTTPRequestHandler):
    """One connection. Subclasses give `routes`: (method, path) → what handles it."""

    protocol_version = "HTTP/1.1"
    server_version = f"planner-engine/{__version__}"
    sys_version = ""
    server: Server
    routes: dict[tuple[str, str], Callable[[Any], None]]

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self._raw = DeadlineReader(self.connection)
        self.rfile = self._buffered = io.BufferedReader(self._raw, 8192)
        self._unread = False

    def handle_one_request(self) -> None:
        limits = self.server.limits
        self.command = self.requestline = ""
        self._raw.deadline, self._raw.budget = time.monotonic() + limits.idle_s, limits.header_bytes
        try:
            if not self._buffered.peek(1):
                self.close_connection = True
                return
            self._raw.deadline = time.monotonic() + limits.receive_s
            super().handle_one_request()
        except TooManyBytesError:
            with _quiet():
                self.send_error(431, f"the request's headers are over {limits.header_bytes} bytes")
        except (OSError, ValueError):
            self.close_connection = True

    def finish(self) -> None:
        """Close; what a refused client still sends is read for a moment, else it would never see the answer."""
        super().finish()
        if not self._unread:
            return
        with _quiet():
            limits, seen = self.server.limits, 0
            self.connection.shutdown(socket.SHUT_WR)
            end = time.monotonic() + limits.linger_s
            while seen < limits.linger_bytes and (left := end - time.monotonic()) > 0:
                self.connection.settimeout(left)
                data = self.connection.recv(65_536)
                if not data:
                    return
                seen += len(data)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the parser of requests refuses: the error object of every other answer, not a page."""
        self.close_connection = self._unread = True
        self.request_version = self.protocol_version  # a line that is no request names none to answer in
        told = (message or HTTPStatus(code).phrase)[:200]
        self.reply_json(code, error_object(told, "server_error" if code >= 500 else "invalid_request_error"))

    def do_GET(self) -> None:
        with self.server.answering():
            self._dispatch()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = do_GET  # noqa: N815

    def body(self) -> bytes:
        """The request's body. Raises HttpError when it has no length or is too long."""
        lengths = set(self.headers.get_all("Content-Length", []))
        length = next(iter(lengths), "")
        if "Transfer-Encoding" in self.headers or len(lengths) != 1 or not (length.isascii() and length.isdigit()):
            raise self.problem(411, "one Content-Length header is needed", "invalid_request_error")
        n_bytes, limits = int(length[:20]), self.server.limits
        if n_bytes > limits.body_bytes:
            raise self.problem(
                413, f"the body has {n_bytes} bytes; the limit is {limits.body_bytes}", "invalid_request_error"
            )
        self._raw.deadline, self._raw.budget = time.monotonic() + limits.receive_s, n_bytes
        data = self.rfile.read(n_bytes) if n_bytes else b""
        if len(data) < n_bytes:
            raise ConnectionError("the client left before its body was complete")
        return data

    def reply(self, status: int, data: bytes, content_type: str, headers: dict[str, str] | None = None) -> None:
        """A whole answer."""
        self.connection.settimeout(self.server.limits.send_s)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def reply_json(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self.reply(status, json.dumps(body, ensure_ascii=False).encode(), "application/json", headers)

    def begin_stream(self) -> None:
        """Headers of a server-sent event stream; then `send_event` and `end_stream`."""
        self.connection.settimeout(self.server.limits.send_s)
        self._chunked = self.request_version == "HTTP/1.1"
        self.close_connection = self.close_connection or not self._chunked
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-cache")
        self.send_header(*(("Transfer-Encoding", "chunked") if self._chunked else ("Connection", "close")))
        self.end_headers()

    def send_event(self, data: str) -> None:
        """One `data:` event; raises OSError when the client is gone or does not read."""
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event) if self._chunked else event)

    def end_stream(self) -> None:
        if self._chunked:
            self.wfile.write(b"0\r\n\r\n")

    def client_left(self) -> bool:
        """The other side has closed the connection."""
        with _quiet():
            readable, _, _ = select.select([self.connection], [], [], 0)
            return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""
        return True

    def problem(self, status: int, message: str, kind: str, headers: dict[str, str] | None = None) -> HttpError:
        """An HttpError; the connection is closed after it when part of the request may be unread."""
        self._unread = self._unread or status in (404, 405, 411, 413)
        self.close_connection = self.close_connection or self._unread
        return HttpError(status, error_object(message, kind), headers)

    def log_message(self, format: str, *args: Any) -> None:
        """Silence; the metrics tell."""

    def _dispatch(self) -> None:
        path = self.path.split("?", 1)[0].rstrip("/") or "/"
        try:
            handler = self.routes.get((self.command, path))
            if handler is None:
                methods = [method for method, known in self.routes if known == path]
                if methods:
                    raise self.problem(
                        405,
                        f"{self.command} is not allowed here",
                        "invalid_request_error",
                        {"Allow": ", ".join(methods)},
                    )
                raise self.problem(404, f"unknown path {path[:80]!r}", "invalid_request_error")
            handler(self)
        except HttpError as error:
            self.reply_json(error.status, error.body, error.headers)


def error_object(message: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class _quiet:  # noqa: N801 - used as a function
    """Swallow what a vanished client raises."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        return isinstance(error, OSError | ValueError)
