"""How fast the validation engine is: `python benchmarks/engine.py`, one BLAS thread, a 15M-parameter Llama.

Prints decode tokens/s at batch 1 and 16, prefill tokens/s, and the bytes that were allocated. The issue's floors are
120, 450 and 3,000 tokens/s on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

FLOORS = {"decode_batch_1": 120.0, "decode_batch_16": 450.0, "prefill": 3000.0}


def config(layers: int, hidden: int, vocab: int) -> dict[str, object]:
    """15.2M parameters with the defaults: the shape of the public "stories15M" models."""
    return {
        "model_type": "llama", "vocab_size": vocab, "hidden_size": hidden, "intermediate_size": hidden * 8 // 3,
        "num_hidden_layers": layers, "num_attention_heads": hidden // 48, "num_key_value_heads": hidden // 48,
        "max_position_embeddings": 1024, "tie_word_embeddings": True,
    }  # fmt: skip


def main() -> int:
    """Measure and print; 1 when a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=288)
    parser.add_argument("--vocab", type=int, default=32_000)
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many runs counts")
    options = parser.parse_args()

    import numpy as np

    from planner.engine.engine import Engine
    from planner.engine.hf_config import from_hf
    from planner.engine.layout import expected_tensors
    from planner.engine.model import Model
    from planner.engine.params import SamplingParams
    from planner.engine.scheduler import Limits
    from planner.engine.tokenizer import ByteTokenizer

    rng = np.random.default_rng(0)
    model_config = from_hf(config(options.layers, options.hidden, options.vocab))
    weights = {
        name: (rng.standard_normal(shape, np.float32) * np.float32(0.05))
        for name, shape in expected_tensors(model_config).items()
    }
    model = Model(model_config, weights)
    parameters = sum(w.size for w in weights.values())

    def engine(seats: int) -> Engine:
        limits = Limits(max_model_len=512, max_num_seqs=seats, max_num_batched_tokens=512)
        return Engine(model, ByteTokenizer(options.vocab), limits, prefix_caching=False)

    def decode(batch: int, tokens: int) -> float:
        runner = engine(batch)
        params = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)
        for _ in range(batch):
            runner.add([int(t) for t in rng.integers(0, 256, 16)], params)
        while runner.scheduler.waiting:
            runner.step()
        produced, began = 0, time.perf_counter()
        while runner.has_work:
            produced += len(runner.step())
        return produced / (time.perf_counter() - began)

    def prefill(prompts: int, length: int) -> float:
        runner = engine(prompts)
        for _ in range(prompts):
            runner.add([int(t) for t in rng.integers(0, 256, length)], SamplingParams(max_tokens=1, temperature=0.0))
        began = time.perf_counter()
        while runner.has_work:
            runner.step()
        return prompts * length / (time.perf_counter() - began)

    runs: dict[str, Callable[[], float]] = {
        "decode_batch_1": lambda: decode(1, 128),
        "decode_batch_16": lambda: decode(16, 64),
        "prefill": lambda: prefill(8, 448),
    }
    figures = {name: max(run() for _ in range(options.repeat)) for name, run in runs.items()}
    report = {"parameters": parameters, "weight_bytes": model.allocated_weight_bytes}
    report |= {f"{name}_tokens_per_s": round(value, 1) for name, value in figures.items()}  # type: ignore[misc]
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return int(any(figures[name] < floor for name, floor in FLOORS.items()))


if __name__ == "__main__":
    sys.exit(main())
