"""The engine: requests in, tokens out. A step is schedule → run → postprocess. One thread owns it.

`Engine` knows a model, blocks and a tokenizer; it knows nothing of HTTP (`server`) or of where weights came from
(`load`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np

from planner.engine.batch import Chunk, make_step
from planner.engine.blocks import BlockPool
from planner.engine.constrained import Constraint, TokenTrie
from planner.engine.detokenize import Detokenizer
from planner.engine.json_grammar import compile_schema
from planner.engine.model import Model
from planner.engine.params import RequestError, SamplingParams
from planner.engine.sampler import sample
from planner.engine.scheduler import Limits, Scheduler
from planner.engine.sequence import Sequence
from planner.engine.tokenizer import Tokenizer
from planner.errors import UsageError
from planner.units import ceil_div


@dataclass(frozen=True, slots=True)
class Output:
    """What one step gave one request: a token, the text that became certain, and, at the end, why it ended."""

    request_id: int
    token: int
    text: str
    finish_reason: str | None
    n_prompt: int
    n_output: int
    n_cached: int


class Engine:
    """`n_blocks` KV blocks of `block_size` tokens serve `limits.max_num_seqs` sequences at once."""

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        limits: Limits,
        *,
        n_blocks: int | None = None,
        block_size: int = 16,
        kv_dtype: str = "float32",
        prefix_caching: bool = True,
        eos_token_ids: Items[int] = (),
    ) -> None:
        config = model.config
        if limits.max_model_len > config.max_position:
            raise UsageError(f"max_model_len {limits.max_model_len} is beyond the model's {config.max_position}")
        if min(limits.max_model_len, limits.max_num_seqs, limits.max_num_batched_tokens, block_size) < 1:
            raise UsageError(f"limits must be at least 1: {limits}, block size {block_size}")
        per_sequence = ceil_div(limits.max_model_len, block_size)
        n_blocks = per_sequence * limits.max_num_seqs if n_blocks is None else n_blocks
        if n_blocks < per_sequence:
            raise UsageError(
                f"{n_blocks} KV blocks of {block_size} tokens cannot hold one sequence of {limits.max_model_len}"
                f" tokens; at least {per_sequence} blocks, or max_model_len up to {n_blocks * block_size}"
            )
        self.model, self.tokenizer, self.limits = model, tokenizer, limits
        self.pool = BlockPool(n_blocks, block_size, prefix_caching=prefix_caching)
        self.scheduler = Scheduler(limits, self.pool)
        self.eos_token_ids = tuple(eos_token_ids or config.eos_token_ids)
        self._caches = model.paged_caches(n_blocks, block_size, kv_dtype)
        self._ids = itertools.count()
        self._trie: TokenTrie | None = None
        self.prompt_tokens_total = self.generation_tokens_total = 0

    @property
    def allocated_weight_bytes(self) -> int:
        """What numpy allocated for weights, over all ranks."""
        return self.model.allocated_weight_bytes

    @property
    def allocated_kv_bytes(self) -> int:
        """What numpy allocated for KV blocks, over all ranks."""
        return sum(cache.allocated_bytes for cache in self._caches)

    @property
    def has_work(self) -> bool:
        return bool(self.scheduler.running or self.scheduler.waiting)

    def add(self, prompt: Items[int], params: SamplingParams) -> int:
        """Queue a request; the id that its outputs carry. Raises RequestError (400) and QueueFullError (503)."""
        sequence = self._sequence(list(prompt), params)
        self.scheduler.add(sequence)
        return sequence.id

    def abort(self, request_id: int) -> bool:
        """Drop a request and free its blocks; False when it is not (or no longer) there."""
        for sequence in (*self.scheduler.running, *self.scheduler.waiting):
            if sequence.id == request_id:
                self.scheduler.finish(sequence)
                return True
        return False

    def step(self) -> list[Output]:
        """Compute one step; outputs of the sequences that got a token."""
        work = self.scheduler.schedule()
        if not work:
            return []
        chunks = []
        for item in work:
            start = item.sequence.computed
            chunks.append(Chunk(item.sequence.tokens[start : start + item.n_tokens], start, item.sequence.blocks))
        complete = [item.n_tokens == item.sequence.pending for item in work]
        logits = self.model.forward(make_step(chunks, self.pool.block_size, complete), self._caches)
        for item in work:
            self.scheduler.computed(item)
        ready = [item.sequence for item, done in zip(work, complete, strict=True) if done]
        tokens = sample(logits, ready, self.eos_token_ids) if ready else []
        return [self._extend(sequence, token) for sequence, token in zip(ready, tokens, strict=True)]

    def generate(self, prompts: Items[Items[int]], params: SamplingParams) -> list[list[int]]:
        """Run `prompts` to their ends; the output tokens of each, in order."""
        results: dict[int, list[int]] = {self.add(prompt, params): [] for prompt in prompts}
        while self.has_work:
            for output in self.step():
                if output.request_id in results:
                    results[output.request_id].append(output.token)
        return list(results.values())

    def _sequence(self, prompt: list[int], params: SamplingParams) -> Sequence:
        limit = self.limits.max_model_len
        if not prompt:
            raise RequestError("the prompt is empty", "prompt")
        wrong = next((t for t in prompt if not 0 <= t < self.model.config.vocab_size), None)
        if wrong is not None:
            raise RequestError(f"token {wrong} is not in the vocabulary of {self.model.config.vocab_size}", "prompt")
        left = limit - len(prompt)
        if left < (params.max_tokens or 1):
            asked = f" and {params.max_tokens} for the completion" if params.max_tokens else ""
            raise RequestError(
                f"This model's maximum context length is {limit} tokens, but {len(prompt)} tokens are in the prompt"
                f"{asked}; shorten the prompt or ask for fewer tokens",
                "prompt",
            )
        constraint = None
        if params.schema is not None:
            vocabulary = self.tokenizer.vocabulary(self.model.config.vocab_size)
            self._trie = self._trie or TokenTrie(vocabulary)
            constraint = Constraint(*compile_schema(params.schema), self._trie, vocabulary)
        return Sequence(
            id=next(self._ids),
            tokens=prompt,
            n_prompt=len(prompt),
            max_tokens=params.max_tokens or left,
            params=params,
            rng=np.random.default_rng(params.seed),
            detokenizer=Detokenizer(params.stop),
            constraint=constraint,
        )

    def _extend(self, sequence: Sequence, token: int) -> Output:
        """Append the token, stream its text, and end the sequence when it is time."""
        if sequence.n_output == 0:
            self.prompt_tokens_total += sequence.n_prompt
        self.generation_tokens_total += 1
        sequence.tokens.append(token)
        is_end = token in self.eos_token_ids and not (sequence.params.ignore_eos and sequence.constraint is None)
        reason = "stop" if is_end else None
        if not is_end and sequence.constraint is not None:
            sequence.constraint.advance(token)
            reason = "stop" if sequence.constraint.finished else None
        full = sequence.n_output >= sequence.max_tokens or len(sequence.tokens) >= self.limits.max_model_len
        reason = reason or ("length" if full else None)
        data = b"" if is_end else self.tokenizer.token_bytes(token)
        text = sequence.detokenizer.push(data, final=reason is not None)
        if sequence.detokenizer.stopped:
            reason = "stop"
        sequence.finish_reason = reason
        if reason is not None:
            self.scheduler.finish(sequence)
        return Output(
            sequence.id, token, text, reason, sequence.n_prompt, sequence.n_output, sequence.cached_prompt_tokens
        )
