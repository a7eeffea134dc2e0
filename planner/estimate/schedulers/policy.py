"""What a scheduler is to the simulation: how many run at once, and what a step may hold."""

from __future__ import annotations

from typing import Final

from planner.records import dataclass

LENGTH_SPREAD: Final = 0.1
"""Share (±) by which answers differ in length unless the workload says that they do not."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How one engine forms its steps.

    `max_sequences` run at once; `step_tokens` is the budget of one step (decodes first, then prompt
    chunks). `mixes` is False where a step is either prompts or decodes (TGI). `pool_tokens` is the
    KV pool; in the mean, requests are admitted while `reserved_tokens` per running request still fit. A client
    that has its last token sends again, and `lag_steps` steps pass before the engine takes it up:
    they were scheduled already, and answers travel while the next step runs.
    """

    max_sequences: float
    step_tokens: float
    mixes: bool
    reserved_tokens: float
    pool_tokens: float
    lag_steps: int = 0
    length_spread: float = LENGTH_SPREAD
    """By which share (±) answers differ in length. With 0 they end together, and their clients move
    in groups: first tokens come later and the rest faster than when clients have fallen out of step."""
    reserves: bool = False
    """Room for a whole answer is kept when a request is admitted; otherwise it grows, and who came last is
    evicted, its tokens recomputed later, when the pool is full."""
    block_tokens: float = 0.0
    """Tokens that a growing request may yet take up at once, kept free per running request on admission."""
    prefix_cache: bool = False
    prefix_copies: float = 1.0
    """Requests that must compute a shared prefix before all others find it: one per separate cache."""
    wait_share: float = 0.0
    wait_steps: int = 0
    """Where steps do not mix: prompts interrupt decoding once they are so many per running request, or after
    so many decode steps."""
    static: bool = False
    """A batch is filled, and nobody joins before all of it have ended."""

    @property
    def admitted(self) -> float:
        """Requests that run at once when always more are waiting; at least one."""
        return max(1.0, min(self.max_sequences, self.pool_tokens / self.reserved_tokens))
