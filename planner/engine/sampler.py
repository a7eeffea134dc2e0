"""Logits to the next token: penalties, temperature, min-p, top-k, top-p, a constraint, and a seeded draw.

The order of filters is vLLM's: penalties, temperature, min-p, then top-k and top-p. All greedy rows of a step are
decided together; the others one by one, each with its own generator.
"""

from __future__ import annotations

from collections.abc import Sequence as Items

import numpy as np

from planner.engine.params import SamplingParams
from planner.engine.sequence import Sequence
from planner.formats.arrays import Floats


def sample(logits: Floats, sequences: Items[Sequence], eos: Items[int]) -> list[int]:
    """The next token of each sequence from its row of `logits` (sequences, vocabulary)."""
    tokens: list[int] = [int(t) for t in logits.argmax(axis=1)]
    for i, sequence in enumerate(sequences):
        params = sequence.params
        if params.greedy and not params.penalized and sequence.constraint is None:
            continue
        row = penalize(logits[i], sequence) if params.penalized else logits[i]
        if sequence.constraint is not None:
            row = _constrained(row, sequence, eos)
        tokens[i] = int(row.argmax()) if params.greedy else draw(row, params, sequence.rng)
    return tokens


def penalize(row: Floats, sequence: Sequence) -> Floats:
    """Repetition over prompt and output (arXiv 1909.05858), presence and frequency over the output (OpenAI's)."""
    params, row = sequence.params, row.copy()
    if params.repetition_penalty != 1:
        seen = np.unique(np.asarray(sequence.tokens))
        values = row[seen]
        penalty = np.float32(params.repetition_penalty)
        row[seen] = np.where(values > 0, values / penalty, values * penalty)
    if sequence.output:
        written, counts = np.unique(np.asarray(sequence.output), return_counts=True)
        less = params.frequency_penalty * counts + params.presence_penalty
        row[written] -= less.astype(np.float32)
    return row


def draw(row: Floats, params: SamplingParams, rng: np.random.Generator) -> int:
    """One token from the filtered distribution of `row`."""
    scaled = row.astype(np.float64) / params.temperature
    scaled -= scaled.max()
    probabilities = np.exp(scaled)
    if params.min_p:
        probabilities[probabilities < params.min_p] = 0.0  # the largest is 1 here
    if params.top_k and params.top_k < len(row):
        least = np.partition(probabilities, -params.top_k)[-params.top_k]
        probabilities[probabilities < least] = 0.0
    if params.top_p < 1:
        order = np.argsort(-probabilities, kind="stable")
        mass = np.cumsum(probabilities[order])
        kept = int(np.searchsorted(mass, params.top_p * mass[-1])) + 1
        probabilities[order[kept:]] = 0.0
    mass = np.cumsum(probabilities)
    return int(np.searchsorted(mass, rng.random() * mass[-1], side="right"))


def _constrained(row: Floats, sequence: Sequence, eos: Items[int]) -> Floats:
    constraint = sequence.constraint
    assert constraint is not None
    allowed = constraint.allowed(sequence.max_tokens - sequence.n_output)
    kept = np.full_like(row, -np.inf)
    kept[allowed] = row[allowed]
    if constraint.accepts:
        ends = [t for t in eos if t < len(row)]
        kept[ends] = row[ends]
    return kept
