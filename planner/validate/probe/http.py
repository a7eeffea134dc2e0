"""HTTP to an endpoint that we do not trust: JSON and event streams over http.client, bounded in time and size.

Knows no API. A connection that fails is an EndpointError; an answer, whatever its status, is an Answer.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from planner.errors import NetworkError, UsageError

MAX_BODY_BYTES = 32 << 20
MAX_LINE_BYTES = 4 << 20


class EndpointError(NetworkError):
    """The endpoint cannot be reached, breaks off, or sends what is no HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON, None when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def text(self) -> str:
        """The body's first characters on one line."""
        return " ".join(self.body[:300].decode("utf-8", "replace").split())


@dataclass(frozen=True, slots=True)
class Piece:
    """One event or line of a stream and when it came, seconds since the request was sent."""

    at_s: float
    data: str


@dataclass(frozen=True, slots=True)
class Stream:
    """A streamed response. `refused` is the whole answer when its status was not 200."""

    pieces: tuple[Piece, ...]
    end_s: float
    refused: Answer | None = None
    content_type: str = ""


class Client:
    """One endpoint. `url` may end in `/v1`; `key` is sent as a bearer token. A connection per request."""

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 60.0) -> None:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!a} is no endpoint; write e.g. http://localhost:8000")
        try:
            self.port = parts.port
        except ValueError:
            raise UsageError(f"{url!a} has an impossible port") from None
        path = parts.path.rstrip("/")
        self.prefix = path.removesuffix("/v1")
        self.scheme, self.host, self.timeout_s = parts.scheme, parts.hostname, timeout_s
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{self.prefix}"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def get(self, path: str) -> Answer:
        """GET `path`."""
        return self._whole("GET", path, None)

    def post(self, path: str, body: Any) -> Answer:
        """POST JSON, or bytes as they are."""
        return self._whole("POST", path, body)

    def stream(self, path: str, body: Any, *, max_pieces: int = 100_000) -> Stream:
        """POST JSON and read server-sent events, or lines of JSON, as they come."""
        connection = self._connect()
        try:
            began = time.perf_counter()
            answer = self._send(connection, "POST", path, body)
            if answer.status != 200:
                return Stream((), time.perf_counter() - began, _read(answer))
            kind = answer.getheader("content-type") or ""
            pieces: list[Piece] = []
            for data in _events(answer, sse="event-stream" in kind):
                pieces.append(Piece(time.perf_counter() - began, data))
                if data == "[DONE]" or len(pieces) >= max_pieces:
                    break
            return Stream(tuple(pieces), time.perf_counter() - began, None, kind)
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(path, error) from None
        finally:
            connection.close()

    def _whole(self, method: str, path: str, body: Any) -> Answer:
        connection = self._connect()
        try:
            return _read(self._send(connection, method, path, body))
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(path, error) from None
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        if self.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout_s, context=context)
        return http.client.HTTPConnection(self.host, self.port, timeout=self.timeout_s)

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any
    ) -> http.client.HTTPResponse:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = self._headers | ({} if data is None else {"Content-Type": "application/json"})
        connection.request(method, self.prefix + path, data, headers)
        return connection.getresponse()

    def _broken(self, path: str, error: Exception) -> EndpointError:
        reason = str(error) or type(error).__name__
        return EndpointError(f"{self.url}{path}: {reason}")


def _read(answer: http.client.HTTPResponse) -> Answer:
    body = answer.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise http.client.HTTPException(f"an answer of more than {MAX_BODY_BYTES >> 20} MiB")
    return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, body)


def _events(answer: http.client.HTTPResponse, *, sse: bool) -> Iterator[str]:
    """Data of events (fields other than data are left out), or lines that are not empty."""
    data: list[str] = []
    while True:
        raw = answer.readline(MAX_LINE_BYTES + 1)
        if len(raw) > MAX_LINE_BYTES:
            raise http.client.HTTPException(f"a line of more than {MAX_LINE_BYTES >> 20} MiB")
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not sse:
            if not raw:
                return
            if line:
                yield line
            continue
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []
        if not raw:
            return
