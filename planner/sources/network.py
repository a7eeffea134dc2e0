"""Bounded HTTP reads: JSON, small files and ranges of large ones, with retries and clear errors.

Knows redirects (a token never follows one to another host), ETags, Retry-After, wrong lengths and servers
that ignore ranges; knows no hub and no registry. Standard library only, so that memory stays bounded
whatever the server sends. Nothing here runs unless a live source asks for it.
"""

from __future__ import annotations

import http.client
import os
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import field
from email.message import Message
from typing import Final

from planner.errors import FormatError, NetworkError
from planner.records import dataclass

TIMEOUT_S: Final = 10.0
"""Of one read from the socket, and of connecting."""
DEADLINE_S: Final = 60.0
"""Of one request, its body included: a server that drips bytes is given up."""
ATTEMPTS: Final = 3
RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})
MAX_RETRY_AFTER_S: Final = 8.0
_TRUE: Final = frozenset({"1", "on", "yes", "true"})
_CHUNK: Final = 1 << 16
MAX_PASSED_OVER_BYTES: Final = 128 << 20
"""Of a file that a server without ranges sends whole: no header that we read begins later."""


def offline() -> bool:
    """True when PLANNER_OFFLINE or HF_HUB_OFFLINE forbids the network."""
    return any(os.environ.get(name, "").casefold() in _TRUE for name in ("PLANNER_OFFLINE", "HF_HUB_OFFLINE"))


class RefusedError(NetworkError):
    """The server answered, with an error. `status` is its HTTP status, `detail` its own words."""

    def __init__(self, url: str, status: int, detail: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.status, self.detail, self.headers = status, detail, dict(headers or {})
        super().__init__(f"{_host(url)} answered {status}{': ' + detail if detail else ''}")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response read to its end. Header names are lower case."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects; drops the token when the host changes and refuses to leave HTTPS."""

    def redirect_request(
        self, req: urllib.request.Request, fp: object, code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme != "https"):
            raise NetworkError(f"{old.netloc} redirects to {new.scheme}://{new.netloc}, which is not followed")
        following = urllib.request.Request(newurl, headers=dict(req.header_items()), method=req.get_method())
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            following.remove_header("Authorization")
        return following


_OPENER = urllib.request.build_opener(_Redirects)


def get(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    limit: int,
    attempts: int = ATTEMPTS,
    start: int | None = None,
) -> Answer:
    """GET `url`, at most `limit` bytes. Retries what may pass (429, 5xx, broken connections).

    `start`: ask for the range of `limit` bytes from there; of a server that ignores it and sends the whole file,
    what stands before is passed over, and nothing is read after it. Raises RefusedError for an HTTP error,
    NetworkError for no answer, FormatError for a body over the limit.
    """
    for attempt in range(1, attempts + 1):
        try:
            return _once(url, dict(headers or {}), limit, start)
        except RefusedError as error:
            if error.status not in RETRIED or attempt == attempts:
                raise
            wait = _retry_after(error.headers.get("retry-after"), attempt)
            if wait is None:
                raise
        except NetworkError:
            if attempt == attempts:
                raise
            wait = backoff(attempt)
        time.sleep(wait)
    raise AssertionError("the loop returns or raises")


def _once(url: str, headers: dict[str, str], limit: int, start: int | None = None) -> Answer:
    if start is not None:
        headers = {**headers, "Range": f"bytes={start}-{start + limit - 1}"}
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", "User-Agent": "planner", **headers})
    started = time.monotonic()
    try:
        with _OPENER.open(request, timeout=TIMEOUT_S) as response:
            found = {name.lower(): value for name, value in response.headers.items()}
            if found.get("content-encoding", "identity").casefold() not in ("", "identity"):
                raise NetworkError(f"{_host(url)} sends {_name(url)} compressed, although asked not to")
            declared = _number(found.get("content-length"))
            whole = start is not None and response.status == 200
            passed_over = start or 0 if whole else 0
            if passed_over > MAX_PASSED_OVER_BYTES:
                raise NetworkError(f"{_host(url)} does not serve ranges of {_name(url)}")
            if whole:
                wanted = limit if declared is None else max(0, min(limit, declared - passed_over))
            elif declared is not None and declared > limit:
                raise FormatError(f"{_host(url)} sends {declared} bytes where at most {limit} are read")
            parts: list[bytes] = []
            size = 0
            while chunk := response.read1(_CHUNK):
                size += len(chunk)
                if size > passed_over:
                    parts.append(chunk[max(0, len(chunk) - (size - passed_over)) :])
                if whole and size >= passed_over + wanted:
                    return Answer(response.status, b"".join(parts)[:wanted], found, response.url)
                if not whole and size > limit:
                    raise FormatError(f"{_host(url)} sends more than the {limit} bytes that are read")
                if time.monotonic() - started > DEADLINE_S:
                    raise NetworkError(f"{_host(url)} was too slow: {size} bytes in {DEADLINE_S:g} s")
            if declared is not None and size != declared:
                raise NetworkError(f"{_host(url)} broke off: {size} of {declared} bytes came")
            return Answer(response.status, b"".join(parts), found, response.url)
    except urllib.error.HTTPError as error:
        with error:
            found = {name.lower(): value for name, value in error.headers.items()}
            detail = found.get("x-error-message") or _reason(error)
        raise RefusedError(url, error.code, detail[:200], found) from None
    except NetworkError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        cause = getattr(error, "reason", None) or error
        text = "timed out" if isinstance(cause, TimeoutError) else str(cause) or type(cause).__name__
        raise NetworkError(f"{_host(url)} cannot be reached: {text[:160]}") from None


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        text = error.read(200).decode("utf-8", errors="replace")
    except (OSError, http.client.HTTPException):
        text = ""
    text = " ".join(text.split())
    return str(error.reason) if not text or text.startswith("<") else text


def _retry_after(text: str | None, attempt: int) -> float | None:
    """Seconds to wait; None when the server asks for longer than is worth waiting."""
    asked = _number(text)
    if asked is None:
        return backoff(attempt)
    return float(asked) if asked <= MAX_RETRY_AFTER_S else None


def backoff(attempt: int) -> float:
    return 0.25 * float(2**attempt) * (0.5 + random.random() / 2)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() else None


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2] or url[:80]


class HttpFile:
    """A remote file as a range reader (`formats.reader.RangeReader`): one growing prefix, fetched in pieces.

    Headers lie at a file's start, so reads are served from a buffer that keeps the last piece. The file must
    not change between reads: its ETag and total size are compared. `size` is known after the first read.
    """

    def __init__(
        self, url: str, *, headers: Mapping[str, str] | None = None, piece: int = 1 << 18, size: int | None = None
    ) -> None:
        self.url, self._headers, self._piece = url, dict(headers or {}), piece
        self._expected = size
        self._etag: str | None = None
        self._start, self._buffer = 0, b""
        self._total: int | None = None
        self._fetch(0, piece)

    @property
    def size(self) -> int:
        """Bytes of the whole file, as the server reports them."""
        assert self._total is not None
        return self._total

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, fewer at the end of the file."""
        length = max(0, min(length, self.size - offset))
        begin = offset - self._start
        if begin < 0 or begin + length > len(self._buffer):
            self._fetch(offset, max(length, self._piece))
            begin = 0
        return self._buffer[begin : begin + length]

    def _fetch(self, offset: int, length: int) -> None:
        if self._total is not None:
            length = min(length, self._total - offset)
        try:
            answer = get(self.url, headers=self._headers, limit=length, start=offset)
        except RefusedError as error:
            if error.status == 416 and offset == 0:
                raise FormatError(f"{_name(self.url)} is empty") from None
            raise
        if answer.status == 206:
            unit, _, rest = answer.headers.get("content-range", "").partition(" ")
            span, _, whole = rest.partition("/")
            first, _, last = span.partition("-")
            numbers = tuple(_number(part) for part in (first, last, whole))
            if unit != "bytes" or None in numbers:
                raise NetworkError(f"{_host(self.url)} answers a range without a usable Content-Range")
            begin, end, total = (n for n in numbers if n is not None)
            if begin != offset or end - begin + 1 != len(answer.body) or end >= total:
                raise NetworkError(
                    f"{_host(self.url)} sent bytes {begin}-{end} of {total} in {len(answer.body)} bytes,"
                    f" where {offset}-{offset + length - 1} were asked for"
                )
        else:
            declared = _number(answer.headers.get("content-length")) or self._expected or self._total
            if declared is None and len(answer.body) == length:
                raise NetworkError(f"{_host(self.url)} serves no ranges of {_name(self.url)} and does not say its size")
            total = offset + len(answer.body) if declared is None else declared
            if len(answer.body) != min(length, total - offset):
                raise NetworkError(f"{_host(self.url)} broke off: {offset + len(answer.body)} of {total} bytes came")
        self._check(answer.headers.get("etag"), total)
        self._start, self._buffer = offset, answer.body

    def _check(self, etag: str | None, total: int) -> None:
        if self._expected is not None and total != self._expected:
            raise FormatError(f"{_name(self.url)} has {total} bytes where its repository lists {self._expected}")
        if self._total is not None and (total != self._total or etag != self._etag):
            raise NetworkError(f"{_name(self.url)} changed while it was read; try again")
        self._total, self._etag = total, etag


def _name(url: str) -> str:
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])[:80]
