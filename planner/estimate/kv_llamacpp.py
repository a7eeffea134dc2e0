"""KV cache of llama.cpp and Ollama: cells of one shared buffer, sized at start.

`n_ctx` is per slot; with several slots the buffer is their sum (separate streams) unless unified.
Windowed layers keep window + micro-batch cells. Knows no weights. Sources: llama.cpp
src/llama-kv-cache-iswa.cpp, src/llama-kv-cache.cpp, src/llama-memory-recurrent.cpp; buffer sizes of
published load logs.
"""

from __future__ import annotations

from planner.estimate.kvcache import kv_layers, state_bytes
from planner.spec.model import Mla, ModelSpec
from planner.units import round_up

CELL_PADDING = 256
"""Cells are padded to this many (GGML_PAD in llama-context.cpp and llama-kv-cache-iswa.cpp)."""


def llamacpp_kv_bytes(
    model: ModelSpec,
    n_ctx: int,
    *,
    n_parallel: int = 1,
    n_ubatch: int = 512,
    kv_dtype_bytes: float = 2,
    v_dtype_bytes: float | None = None,
    unified: bool = False,
    swa_full: bool = False,
    latent: bool = True,
) -> int:
    """Bytes of the KV cache and recurrent states over all layers.

    `n_ctx` tokens per slot, `n_parallel` slots. `kv_dtype_bytes` of a K element (34/32 for q8_0), V
    the same unless `v_dtype_bytes`. `latent` False is the old layout of latent attention, which
    keeps full K and V per head. Recurrent state is fp32 for each slot, convolution state too.
    """
    cells = round_up(n_ctx, CELL_PADDING)
    streams = n_parallel
    v_bytes = kv_dtype_bytes if v_dtype_bytes is None else v_dtype_bytes
    mean = (kv_dtype_bytes + v_bytes) / 2
    total = 0.0
    for row in kv_layers(model, mean, sparse_fp8=False):
        if row.kind in ("state", "cross", "indexer"):
            continue
        held = cells
        if row.window_tokens and row.kind == "sliding" and not swa_full:
            windows = n_parallel if unified else 1
            held = min(cells, round_up(row.window_tokens * windows + n_ubatch, CELL_PADDING))
            total += row.count * row.bytes_per_token * held * (1 if unified else streams)
            continue
        if row.kind == "latent":
            total += row.count * _latent(model, kv_dtype_bytes, v_bytes, latent) * held * streams
            continue
        total += row.count * row.bytes_per_token * held * streams
    return round(total) + n_parallel * recurrent_bytes(model)


def _latent(model: ModelSpec, k_bytes: float, v_bytes: float, compressed: bool) -> float:
    for group in model.layers:
        for m in group.mixers:
            if isinstance(m, Mla):
                if compressed:
                    return (m.kv_lora_rank + m.qk_rope_head_dim) * k_bytes
                return m.heads * ((m.qk_nope_head_dim + m.qk_rope_head_dim) * k_bytes + m.v_head_dim * v_bytes)
    return 0.0


def recurrent_bytes(model: ModelSpec) -> int:
    """Recurrent and convolution state of one slot, both fp32 in llama.cpp."""
    total = 0
    for group in model.layers:
        for mixer in group.mixers:
            if mixer.kind in ("attention", "mla"):
                continue
            plain = state_bytes(mixer, activation_bytes=4)
            total += plain * len(group.layers)
    return total
