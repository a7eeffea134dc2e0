"""llama.cpp itself, through the package xllamacpp: it loads our GGUF files, and gives the same tokens and answers.

Its server runs in a process of its own, so that what it prints and how it ends are not ours.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.smoke_model.export import gguf
from planner.engine.byte_vocabulary import byte_metadata
from planner.engine.hf_config import from_hf
from planner.engine.smoke_model import FOLDER, golden_answers
from planner.validate.probe import probe
from planner.validate.probe.http import Client
from planner.validate.small_gguf import write_gguf_of
from tests.engine.checkpoints import CASES, prompt, random_weights
from tests.oracle.test_logits import our_logits

pytest.importorskip("xllamacpp", reason="the oracle needs xllamacpp, a build of llama.cpp")
SERVE = """
import sys, time, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.model_alias, p.port, p.n_parallel, p.n_ctx = sys.argv[1], {"smoke"}, 0, 2, 1024
p.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
p.n_gpu_layers, p.cpuparams.n_threads, p.verbosity, p.kv_unified = 0, 1, -1, False
p.cache_type_k = p.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
server = xllamacpp.Server(p)
print("at " + server.listening_address, flush=True)
sys.stdin.read()
"""
GOLDEN = golden_answers()
TOLERANCE, TABLED = 1e-4, 5e-3
"""Of the logarithm of a probability, with F32 weights, an F32 cache and plain attention on both sides. Where the
activation is GELU, llama.cpp looks it up in a table of 16-bit values."""
FIXED = {"head_dim": 12, "mlp_only_layers": []}
"""Qwen2's heads are hidden ÷ heads wide in llama.cpp, and GGUF has no dense layers among routed ones."""
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {}, "llama-llama3": {}, "llama-linear": {}, "llama-yarn": {}, "mixtral": {}, "qwen2": FIXED, "qwen3": {},
    "qwen2-moe": FIXED, "qwen3-moe": {"mlp_only_layers": []},
    "gemma2": {"query_pre_attn_scalar": 16, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    "gemma3": {"query_pre_attn_scalar": 16, "sliding_window_pattern": 6, "num_hidden_layers": 7},
}  # fmt: skip


@contextmanager
def serving(path: Path) -> Iterator[str]:
    """The address of llama.cpp's own HTTP server over the file."""
    command = [sys.executable, "-c", SERVE, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            lines = (line.decode() for line in process.stdout)
            yield next(line.removeprefix("at ").strip() for line in lines if line.startswith("at "))
        finally:
            process.kill()


@pytest.mark.parametrize("kind", ["shipped", "F16", "Q4_0"])
def test_its_greedy_answers_are_ours(kind: str, tmp_path: Path) -> None:
    path = FOLDER / "smoke-Q8_0.gguf" if kind == "shipped" else gguf(tmp_path / "smoke.gguf", kind)
    with serving(path) as url:
        client, told = Client(url, timeout_s=30), {}
        for question in list(GOLDEN)[:6]:
            body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 160}
            told[question] = client.post("/v1/chat/completions", body).json["choices"][0]["message"]["content"]
    same = sum(GOLDEN[question] == answer for question, answer in told.items())
    assert same >= (6 if kind != "Q4_0" else 4), told


def test_the_probe_finds_no_fault_in_it() -> None:
    with serving(FOLDER / "smoke-Q8_0.gguf") as url:
        found = {c.name: c for c in probe(url, concurrency=2, requests=4, timeout_s=30).checks}
    assert [c for c in found.values() if c.status == "failed"] == []
    for name in ("chat stream", "stop", "JSON schema", "over-long context", "llama.cpp /completion", "load"):
        assert found[name].status == "passed", found[name]


@pytest.mark.parametrize("case", FAMILIES)
def test_its_next_token_is_as_likely_as_ours(case: str, tmp_path: Path) -> None:
    given = CASES[case] | FAMILIES[case]
    config, path = from_hf(given), tmp_path / "tiny.gguf"
    tolerance = TABLED if config.activation == "gelu_tanh" else TOLERANCE
    named = replace(config, eos_token_ids=(257,))
    write_gguf_of(named, random_weights(given), lambda _role, _layer: "F32", path, byte_metadata(config.vocab_size))
    compared = 0
    with serving(path) as url:
        for seed in range(8):
            tokens = prompt(60, seed)
            body = {"prompt": tokens, "n_predict": 1, "n_probs": 50, "temperature": 0, "cache_prompt": False}
            answer = Client(url, timeout_s=30).post("/completion", body).json
            for chosen in answer.get("completion_probabilities", [])[:1]:  # none where a character is not complete
                logits = our_logits(path, tokens)[-1].astype(np.float64)
                ours = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
                for entry in chosen["top_logprobs"]:
                    assert abs(ours[entry["id"]] - entry["logprob"]) < tolerance
                    compared += 1
    assert compared >= 50
