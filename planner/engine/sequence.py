"""One request on its way: its tokens, how many of them are computed, and the blocks that hold them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from planner.engine.blocks import chain_hash
from planner.engine.constrained import Constraint
from planner.engine.detokenize import Detokenizer
from planner.engine.params import SamplingParams


@dataclass(slots=True, eq=False)
class Sequence:
    """`tokens` are prompt and output; the first `computed` have their K and V in `blocks`."""

    id: int
    tokens: list[int]
    n_prompt: int
    max_tokens: int
    params: SamplingParams
    rng: np.random.Generator
    detokenizer: Detokenizer
    constraint: Constraint | None = None
    computed: int = 0
    blocks: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    finish_reason: str | None = None
    cached_prompt_tokens: int = 0
    preemptions: int = 0

    @property
    def pending(self) -> int:
        """Tokens whose K and V are still to be computed; after them the next token is sampled."""
        return len(self.tokens) - self.computed

    @property
    def output(self) -> list[int]:
        return self.tokens[self.n_prompt :]

    @property
    def n_output(self) -> int:
        return len(self.tokens) - self.n_prompt

    def block_hashes(self, block_size: int, n_tokens: int) -> list[bytes]:
        """Keys of the full blocks among the first `n_tokens` tokens; computed once, they never change."""
        while (len(self.hashes) + 1) * block_size <= n_tokens:
            start = len(self.hashes) * block_size
            parent = self.hashes[-1] if self.hashes else b""
            self.hashes.append(chain_hash(parent, self.tokens[start : start + block_size]))
        return self.hashes[: n_tokens // block_size]
