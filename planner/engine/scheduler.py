"""Who runs in the next step. No phases: every sequence has pending tokens, and a step has a token budget.

First come, first served; prompts are computed in chunks that fit the budget beside the running sequences; when
blocks run out the youngest gives its blocks back and is recomputed later. Knows nothing of models or texts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from planner.engine.blocks import BlockPool
from planner.engine.params import QueueFullError
from planner.engine.sequence import Sequence
from planner.units import ceil_div


@dataclass(frozen=True, slots=True)
class Limits:
    """What the deployment promises. `queue` bounds how many requests may wait (None: no bound)."""

    max_model_len: int
    max_num_seqs: int = 16
    max_num_batched_tokens: int = 512
    queue: int | None = None


@dataclass(frozen=True, slots=True)
class Scheduled:
    """`n_tokens` of the sequence's pending tokens are computed in this step."""

    sequence: Sequence
    n_tokens: int


class Scheduler:
    """Waiting and running sequences over one block pool."""

    def __init__(self, limits: Limits, pool: BlockPool) -> None:
        self.limits, self.pool = limits, pool
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.n_preemptions = 0
        self.prefix_queries = self.prefix_hits = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence. Raises QueueFullError past the bound."""
        bound = self.limits.queue
        free_seats = max(0, self.limits.max_num_seqs - len(self.running))
        if bound is not None and len(self.waiting) >= bound + free_seats:
            seats = self.limits.max_num_seqs
            raise QueueFullError(f"the server is full (at most {seats} running and {bound} waiting); try again later")
        self.waiting.append(sequence)

    def schedule(self) -> list[Scheduled]:
        """The next step's work, oldest first; empty when nothing can run."""
        budget = self.limits.max_num_batched_tokens
        work: list[Scheduled] = []
        preempted = False
        index = 0
        while index < len(self.running) and budget:
            sequence = self.running[index]
            n_tokens = min(sequence.pending, budget)
            if not self._grow(sequence, n_tokens):
                preempted = True
                self._preempt(self.running[-1])
                continue  # with the same sequence, unless it was itself the youngest
            work.append(Scheduled(sequence, n_tokens))
            budget -= n_tokens
            index += 1
        while self.waiting and budget and not preempted and len(self.running) < self.limits.max_num_seqs:
            sequence = self.waiting[0]
            if not self._admit(sequence, budget):
                break
            n_tokens = min(sequence.pending, budget)
            self.waiting.popleft()
            self.running.append(sequence)
            work.append(Scheduled(sequence, n_tokens))
            budget -= n_tokens
        return work

    def computed(self, item: Scheduled) -> None:
        """The step is done: count its tokens and publish the blocks they filled."""
        sequence, size = item.sequence, self.pool.block_size
        before = sequence.computed // size
        sequence.computed += item.n_tokens
        for i, key in enumerate(sequence.block_hashes(size, sequence.computed)[before:], start=before):
            self.pool.remember(sequence.blocks[i], key)

    def finish(self, sequence: Sequence) -> None:
        """Take the sequence out, wherever it is, and give its blocks back."""
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        self._release(sequence)

    def _grow(self, sequence: Sequence, n_tokens: int) -> bool:
        """Blocks for `n_tokens` more; False, and nothing taken, when there are too few."""
        wanted = ceil_div(sequence.computed + n_tokens, self.pool.block_size) - len(sequence.blocks)
        if wanted > self.pool.n_free:
            return False
        sequence.blocks += [self.pool.take() for _ in range(wanted)]
        return True

    def _admit(self, sequence: Sequence, budget: int) -> bool:
        """Start a waiting sequence on the blocks of its longest remembered prefix, if its first chunk fits.

        The last token is always computed, because its logits are needed.
        """
        size = self.pool.block_size
        shared = self.pool.match(sequence.block_hashes(size, len(sequence.tokens) - 1))
        first_chunk = min(len(sequence.tokens) - len(shared) * size, budget)
        new = ceil_div(len(shared) * size + first_chunk, size) - len(shared)
        if new + self.pool.cost_of_sharing(shared) > self.pool.n_free:
            return False
        for block in shared:
            self.pool.share(block)
        sequence.blocks, sequence.computed = shared, len(shared) * size
        self.prefix_queries += len(sequence.tokens)
        self.prefix_hits += sequence.computed
        if sequence.preemptions == 0:
            sequence.cached_prompt_tokens = sequence.computed
        grown = self._grow(sequence, first_chunk)
        assert grown, "blocks were counted before they were taken"
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)
        sequence.preemptions += 1
        self.n_preemptions += 1
        self.waiting.appendleft(sequence)

    def _release(self, sequence: Sequence) -> None:
        self.pool.release(reversed(sequence.blocks))
        sequence.blocks, sequence.computed = [], 0
