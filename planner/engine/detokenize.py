"""Tokens to text as it streams: never half a character, never part of a stop string, stops across token borders."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class Detokenizer:
    """`push` bytes, get the text that is safe to send. `stopped` is set once a stop string was found."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, data: bytes, *, final: bool = False) -> str:
        """Text that became certain with `data`; with `final`, all that is left."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(data, final)
        found = [(at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            at, _ = min(found)
            text, self._held, self.stopped = self._held[:at], "", True
            return text
        keep = 0 if final else self._undecided()
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text

    def _undecided(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max((len(s) for s in self._stops), default=1) - 1
        for n in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-n:]
            if any(s.startswith(end) for s in self._stops):
                return n
        return 0
