"""Sampling: each filter keeps what its definition keeps, and draws follow the distribution that is left."""

from __future__ import annotations

import numpy as np
import pytest

from planner.engine.detokenize import Detokenizer
from planner.engine.params import RequestError, SamplingParams
from planner.engine.sampler import draw, penalize, sample
from planner.engine.sequence import Sequence

ROW = np.log(np.array([0.5, 0.25, 0.15, 0.06, 0.04], np.float32))


def shares(params: SamplingParams, n: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.bincount([draw(ROW, params, rng) for _ in range(n)], minlength=5) / n


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (SamplingParams(), [0.5, 0.25, 0.15, 0.06, 0.04]),
        (SamplingParams(top_k=2), [2 / 3, 1 / 3, 0, 0, 0]),
        (SamplingParams(top_p=0.7), [2 / 3, 1 / 3, 0, 0, 0]),
        (SamplingParams(top_p=0.76), [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0, 0]),
        (SamplingParams(top_p=1e-9), [1, 0, 0, 0, 0]),
        (SamplingParams(min_p=0.2), [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0, 0]),
        (SamplingParams(temperature=0.5, top_k=2), [0.8, 0.2, 0, 0, 0]),
    ],
    ids=str,
)
def test_draws_follow_the_filtered_distribution(params: SamplingParams, expected: list[float]) -> None:
    measured = shares(params)
    assert np.abs(measured - expected).max() < 0.03
    assert (measured[np.array(expected) == 0] == 0).all()


def sequence(params: SamplingParams, tokens: list[int], n_prompt: int) -> Sequence:
    return Sequence(0, tokens, n_prompt, 9, params, np.random.default_rng(params.seed), Detokenizer())


def test_penalties_are_their_definitions() -> None:
    params = SamplingParams(repetition_penalty=2.0, presence_penalty=0.5, frequency_penalty=0.25)
    row = np.array([4.0, -4.0, 1.0, 1.0], np.float32)
    changed = penalize(row, sequence(params, [0, 1, 2, 2, 1], n_prompt=2))
    assert changed.tolist() == [2.0, -8.75, -0.5, 1.0]
    assert row.tolist() == [4.0, -4.0, 1.0, 1.0]


def test_greedy_takes_the_largest_and_a_seed_repeats() -> None:
    logits = np.stack([ROW, ROW[::-1]])
    greedy = SamplingParams(temperature=0)
    assert sample(logits, [sequence(greedy, [0], 1)] * 2, ()) == [0, 4]
    seeded = SamplingParams(seed=11)
    runs = [[sample(logits[:1], [s], ())[0] for _ in range(20)] for s in (sequence(seeded, [0], 1) for _ in range(2))]
    assert runs[0] == runs[1] and len(set(runs[0])) > 1


@pytest.mark.parametrize(
    "change",
    [{"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0}, {"min_p": 2}, {"max_tokens": 0}, {"seed": -1},
     {"stop": ("",)}, {"presence_penalty": 3}, {"repetition_penalty": 0}],
    ids=str,
)  # fmt: skip
def test_values_outside_the_limits_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(RequestError, match=next(iter(change))):
        SamplingParams(**change)  # type: ignore[arg-type]
