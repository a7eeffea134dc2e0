"""How fast the validation engine is: `python -m benchmarks.engine`, one BLAS thread, a 15M-parameter Llama.

Prints decode tokens/s at batch 1 and 16, prefill tokens/s, and the bytes that were allocated. The issue's floors are
120, 450 and 3,000 tokens/s on two cores. `--llamacpp 1 2` measures llama.cpp (the package xllamacpp) on the same
weights beside it, with so many threads. Tokens per second of processor time are printed too: they mean something
on a machine that others use.
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

Speed = tuple[float, float]
"""Tokens per second of wall time, and of processor time."""
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
    parser.add_argument("--llamacpp", type=int, nargs="*", default=[], metavar="THREADS", help="beside llama.cpp")
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

    def decode(batch: int, tokens: int) -> Speed:
        runner = engine(batch)
        params = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)
        for _ in range(batch):
            runner.add([int(t) for t in rng.integers(0, 256, 16)], params)
        while runner.scheduler.waiting:
            runner.step()
        produced, began = 0, clocks()
        while runner.has_work:
            produced += len(runner.step())
        return speed(produced, began)

    def prefill(prompts: int, length: int) -> Speed:
        runner = engine(prompts)
        for _ in range(prompts):
            runner.add([int(t) for t in rng.integers(0, 256, length)], SamplingParams(max_tokens=1, temperature=0.0))
        began = clocks()
        while runner.has_work:
            runner.step()
        return speed(prompts * length, began)

    runs: dict[str, Callable[[], Speed]] = {
        "decode_batch_1": lambda: decode(1, 128),
        "decode_batch_16": lambda: decode(16, 64),
        "prefill": lambda: prefill(8, 448),
    }
    figures = {name: max(run() for _ in range(options.repeat)) for name, run in runs.items()}
    report: dict[str, object] = {"parameters": parameters, "weight_bytes": model.allocated_weight_bytes}
    report["planner"] = told(figures)
    for threads in options.llamacpp:
        from benchmarks.llamacpp import measure

        report[f"llama.cpp, {threads} threads"] = told(measure(model_config, weights, threads, options.repeat))
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return int(any(figures[name][0] < floor for name, floor in FLOORS.items()))


def clocks() -> tuple[float, float]:
    """Wall and processor seconds."""
    return time.perf_counter(), time.process_time()


def speed(tokens: int, began: tuple[float, float]) -> Speed:
    """Tokens per second by both clocks since `began`."""
    wall, processor = clocks()
    return tokens / (wall - began[0]), tokens / (processor - began[1])


def told(figures: dict[str, Speed]) -> dict[str, float]:
    """Figures under their names."""
    by = {"tokens_per_s": 0, "tokens_per_processor_s": 1}
    return {f"{name}_{unit}": round(pair[i], 1) for name, pair in figures.items() for unit, i in by.items()}


if __name__ == "__main__":
    sys.exit(main())
