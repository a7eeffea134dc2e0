"""llama.cpp on the weights of `benchmarks/engine.py`, through the package xllamacpp: the same three figures.

The weights are written as an F32 GGUF with a vocabulary of made-up tokens; prompts go in as token numbers. Timings
are taken outside, over its server's own queue of slots, so that decoding there includes prompts of 16 tokens.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.engine import Speed, clocks, speed
from planner.engine.config import ModelConfig
from planner.validate.small_gguf import write_gguf_of

SLOTS, CONTEXT = 16, 512
N_SPECIAL = 3 + 256
CONTROL, UNKNOWN, BYTE, NORMAL = 3, 2, 6, 1


def measure(config: ModelConfig, weights: Mapping[str, np.ndarray], threads: int, repeat: int) -> dict[str, Speed]:
    """decode_batch_1, decode_batch_16 and prefill, the best of `repeat`."""
    import xllamacpp

    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        named = replace(config, bos_token_id=1, eos_token_ids=(2,))
        write_gguf_of(named, weights, lambda _role, _layer: "F32", path, _vocabulary(config.vocab_size))
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_parallel, params.n_ctx, params.n_gpu_layers = SLOTS, SLOTS * CONTEXT, 0
        params.n_batch = params.n_ubatch = CONTEXT
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.verbosity = -1
        server = xllamacpp.Server(params)
    rng = np.random.default_rng(1)

    def ask(n_prompt: int, n_output: int) -> None:
        tokens = [int(t) for t in rng.integers(N_SPECIAL, config.vocab_size, n_prompt)]
        server.handle_completions(
            {"prompt": tokens, "n_predict": n_output, "ignore_eos": True, "cache_prompt": False, "temperature": 0}
        )

    def together(n: int, n_prompt: int, n_output: int, tokens: int) -> Speed:
        clients = [threading.Thread(target=ask, args=(n_prompt, n_output)) for _ in range(n)]
        began = clocks()
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        return speed(tokens, began)

    return {
        "decode_batch_1": max(together(1, 16, 128, 128) for _ in range(repeat)),
        "decode_batch_16": max(together(SLOTS, 16, 64, SLOTS * 64) for _ in range(repeat)),
        "prefill": max(together(8, 448, 1, 8 * 448) for _ in range(repeat)),
    }


def _vocabulary(size: int) -> dict[str, Any]:
    """A SentencePiece vocabulary of three special tokens, all bytes and made-up words."""
    words = [f"word{i}" for i in range(size - N_SPECIAL)]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *words],
        "tokenizer.ggml.scores": [0.0] * N_SPECIAL + [-float(i) for i in range(len(words))],
        "tokenizer.ggml.token_type": [UNKNOWN, CONTROL, CONTROL, *([BYTE] * 256), *([NORMAL] * len(words))],
        "general.file_type": 0,
    }
