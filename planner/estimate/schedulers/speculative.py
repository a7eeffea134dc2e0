"""Step times with speculative decoding: a draft proposes, one step of the target checks all of it.

A sequence with k drafts is checked like k + 1 sequences that read one context between them. The draft's own pass
over a prompt is left out: drafts are one or two orders of magnitude smaller. Knows no acceptance; that a step gives
more than one token is `Workload.tokens_per_step`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.estimate.ops import lesser

if TYPE_CHECKING:
    from planner.estimate.ops import Quantity
    from planner.estimate.pace import Steps


class Speculating:
    """`target`'s steps with `drafts` drafted tokens, each of which takes `draft_cost` of a plain decode step."""

    __slots__ = ("_drafts", "_share", "_target")

    def __init__(self, target: Steps, drafts: int, draft_cost: float) -> None:
        self._target, self._drafts, self._share = target, drafts, draft_cost * drafts

    @property
    def pipelined(self) -> bool:
        return self._target.pipelined

    @property
    def ranks(self) -> int:
        return self._target.ranks

    @property
    def bends(self) -> tuple[float, ...]:
        wider = self._drafts + 1.0
        return (*self._target.bends, *(wider * bend for bend in self._target.bends))

    @property
    def curved(self) -> bool:
        return self._target.curved

    def front_end_s(self, prompt_tokens: float) -> float:
        """Seconds outside the engine before the first token."""
        return self._target.front_end_s(prompt_tokens)

    def prefill_s(self, tokens: Quantity, context: Quantity = 0.0) -> Quantity:
        """Seconds of one prompt alone."""
        return self._target.prefill_s(tokens, context)

    def decode_s(self, batch: Quantity, mean_context: Quantity) -> Quantity:
        """Seconds of drafting and checking once for each of `batch` sequences."""
        return self.mixed_s(batch, mean_context, 0.0 * batch, 1.0)

    def mixed_s(
        self, decode_batch: Quantity, mean_context: Quantity, prefill_tokens: Quantity, prompt_tokens: Quantity
    ) -> Quantity:
        """Seconds of checking `decode_batch` sequences' drafts beside prompts, and of drafting before it."""
        wider = self._drafts + 1.0
        checked = self._target.mixed_s(wider * decode_batch, mean_context / wider, prefill_tokens, prompt_tokens)
        return checked + self._share * lesser(decode_batch, 1.0) * self._target.decode_s(decode_batch, mean_context)
