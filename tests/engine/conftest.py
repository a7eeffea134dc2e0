"""Small engines for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from planner.engine.engine import Engine
from planner.engine.hf_config import from_hf
from planner.engine.model import Model
from planner.engine.scheduler import Limits
from planner.engine.tokenizer import ByteTokenizer
from tests.engine.checkpoints import CASES, random_weights

MakeEngine = Callable[..., Engine]


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Model]:
    """case name, tensor_parallel → Model; made once each."""
    made: dict[tuple[str, int], Model] = {}

    def make(case: str = "llama", tensor_parallel: int = 1) -> Model:
        key = (case, tensor_parallel)
        if key not in made:
            made[key] = Model(from_hf(CASES[case]), random_weights(CASES[case]), tensor_parallel)
        return made[key]

    return make


@pytest.fixture
def make_engine(make_model: Callable[..., Model]) -> MakeEngine:
    """case name, limits and engine options → Engine."""

    def make(case: str = "llama", tensor_parallel: int = 1, **options: Any) -> Engine:
        names = ("max_model_len", "max_num_seqs", "max_num_batched_tokens", "queue")
        limits = Limits(**({"max_model_len": 128} | {n: options.pop(n) for n in names if n in options}))
        model = make_model(case, tensor_parallel)
        return Engine(model, ByteTokenizer(model.config.vocab_size), limits, **options)

    return make
