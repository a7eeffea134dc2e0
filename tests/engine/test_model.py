"""Logits beside the golden files of transformers, and the same logits by every path through the engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from planner.engine.batch import Chunk, make_step
from planner.engine.config import ModelConfig
from planner.engine.hf_config import from_hf
from planner.engine.layout import expected_tensors
from planner.engine.model import Model
from planner.errors import UsageError
from tests.engine.checkpoints import CASES, prompt, random_weights

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.npz"))
MakeModel = Callable[..., Model]


def through_blocks(model: Model, tokens: list[int], chunks: list[int], block_size: int = 4) -> np.ndarray:
    """All logits, computed chunk by chunk in scattered blocks."""
    n_blocks = -(-len(tokens) // block_size)
    blocks = (
        [(7 * i + 3) % (n_blocks + 8) for i in range(n_blocks)] if (n_blocks + 8) % 7 else list(range(n_blocks))[::-1]
    )
    caches = model.paged_caches(n_blocks + 8, block_size)
    rows, start = [], 0
    for n in chunks:
        step = make_step([Chunk(tokens[start : start + n], start, blocks)], block_size, every_row=True)
        rows.append(model.forward(step, caches))
        start += n
    return np.concatenate(rows)


def test_there_is_a_golden_file_for_every_case() -> None:
    assert {p.stem for p in GOLDEN} == set(CASES)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_logits_are_those_of_transformers(path: Path) -> None:
    golden = np.load(path)
    config = json.loads(str(golden["config"]))
    tokens = [int(t) for t in golden["tokens"]]
    logits = Model(from_hf(config), random_weights(config)).logits(tokens)[golden["rows"]]
    assert np.abs(logits - golden["logits"]).max() < 1e-4 * float(golden["scale"])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("chunks", [[40], [1] * 40, [13, 1, 20, 6]], ids=["whole", "decode", "mixed"])
def test_paged_and_contiguous_attention_agree(case: str, chunks: list[int], make_model: MakeModel) -> None:
    model, tokens = make_model(case), prompt(40)
    contiguous = model.logits(tokens)
    assert np.abs(through_blocks(model, tokens, chunks) - contiguous).max() < 1e-5 * np.abs(contiguous).max() + 1e-5


@pytest.mark.parametrize("case", CASES)
def test_sequences_in_one_batch_do_not_see_each_other(case: str, make_model: MakeModel) -> None:
    model = make_model(case)
    prompts = [prompt(n, seed=n) for n in (37, 5, 18)]
    caches = model.paged_caches(32, 4)
    tables = [list(range(10)), list(range(20, 22)), list(range(10, 15))]
    chunks = [Chunk(p[:-1], 0, t) for p, t in zip(prompts, tables, strict=True)]
    model.forward(make_step(chunks, 4), caches)
    last = [Chunk(p[-1:], len(p) - 1, t) for p, t in zip(prompts, tables, strict=True)]
    together = model.forward(make_step(last, 4), caches)
    alone = np.stack([model.logits(p)[-1] for p in prompts])
    assert np.abs(together - alone).max() < 2e-5 * np.abs(alone).max()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [2, 4])
def test_sharded_ranks_add_up_to_the_whole_model(case: str, size: int, make_model: MakeModel) -> None:
    whole = make_model(case).logits(prompt(24))
    sharded = make_model(case, size).logits(prompt(24))
    assert np.abs(whole - sharded).max() < 2e-5 * np.abs(whole).max()


def test_a_shard_that_does_not_divide_is_refused() -> None:
    config = from_hf(CASES["llama"])
    with pytest.raises(UsageError, match="tensor parallel 3"):
        Model(config, random_weights(CASES["llama"]), 3)


@pytest.mark.parametrize("case", CASES)
def test_allocated_weights_are_the_checkpoints_elements(case: str, make_model: MakeModel) -> None:
    config = from_hf(CASES[case])
    elements = sum(int(np.prod(shape)) for shape in expected_tensors(config).values())
    assert make_model(case).allocated_weight_bytes == 4 * elements


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_allocated_kv_is_tokens_times_layers_times_width(case: str, dtype: str, make_model: MakeModel) -> None:
    config: ModelConfig = from_hf(CASES[case])
    (cache,) = make_model(case).paged_caches(10, 16, dtype)
    assert cache.allocated_bytes == 160 * len(config.layers) * config.kv_floats_per_token * np.dtype(dtype).itemsize


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_type": "phi3"}, "phi3"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "longrope"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"hidden_act": "relu"}, "relu"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"num_key_value_heads": 3}, "evenly"),
        ({"hidden_size": "48"}, "hidden_size"),
        ({"num_hidden_layers": 1 << 30}, "num_hidden_layers"),
        ({"vocab_size": 0}, "vocab_size"),
    ],
    ids=str,
)
def test_what_is_not_implemented_is_refused_by_name(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        from_hf(CASES["llama"] | change)
