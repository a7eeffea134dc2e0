"""Step times as a schedule asks for them: the same few batches over and over, at contexts that creep.

A decode step of a given batch is an affine function of the context between the points at which a window
fills, so two evaluations give all of it and the sum over a run of steps is the step in its middle. Steps
with prompts are remembered on a grid of contexts. Floats only; knows no queue.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from planner.estimate.ops import Quantity

CONTEXT_GRID: Final = 32.0
"""Tokens of mean context between the steps with prompts that are remembered: under a thousandth of a step."""
_CURVED_RATIO: Final = 1.2
"""Ratio of neighbouring contexts between which a step that is not affine is taken to be."""


class Steps(Protocol):
    """What a schedule needs to know of an engine; `StepModel` and `Speculating` have it."""

    @property
    def pipelined(self) -> bool: ...
    @property
    def ranks(self) -> int: ...
    @property
    def bends(self) -> tuple[float, ...]: ...
    @property
    def curved(self) -> bool: ...
    def front_end_s(self, prompt_tokens: float) -> float: ...
    def prefill_s(self, tokens: Quantity, context: Quantity = 0.0) -> Quantity: ...
    def decode_s(self, batch: Quantity, mean_context: Quantity) -> Quantity: ...
    def mixed_s(
        self, decode_batch: Quantity, mean_context: Quantity, prefill_tokens: Quantity, prompt_tokens: Quantity
    ) -> Quantity: ...


class Pace:
    """Remembered step times of one `Steps`."""

    __slots__ = ("_bends", "_lines", "_mixed", "_steps")

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._lines: dict[tuple[float, int], tuple[float, float]] = {}
        self._mixed: dict[tuple[float, float, float, float], float] = {}
        bends = {0.0, *steps.bends}
        if steps.curved:
            context = CONTEXT_GRID
            while context < 2**24:
                bends.add(context)
                context *= _CURVED_RATIO
        self._bends = sorted(bends)

    def decode_s(self, batch: float, context: float) -> float:
        """Seconds of a decode step of `batch` sequences at a mean of `context` tokens."""
        at = bisect_right(self._bends, context) if len(self._bends) > 1 else 1
        line = self._lines.get((batch, at))
        if line is None:
            low = self._bends[at - 1] if at else 0.0
            high = self._bends[at] if at < len(self._bends) else 2.0 * low + 4096.0
            first, last = self._steps.decode_s(batch, low), self._steps.decode_s(batch, high)
            slope = (last - first) / (high - low)
            line = self._lines[batch, at] = (first - slope * low, slope)
        return line[0] + line[1] * context

    def mixed_s(self, decode_batch: float, context: float, prefill_tokens: float, prompt_tokens: float) -> float:
        """Seconds of a step that takes `prefill_tokens` of prompts beside `decode_batch` sequences."""
        near = CONTEXT_GRID * round(context / CONTEXT_GRID) if decode_batch else 0.0
        key = (decode_batch, near, prefill_tokens, prompt_tokens)
        found = self._mixed.get(key)
        if found is None:
            found = self._mixed[key] = float(self._steps.mixed_s(*key))
        return found
