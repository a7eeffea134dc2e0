"""How long one operator takes on one device: smooth rooflines with few fitted efficiencies.

Everything here is plain arithmetic (`+ - * / **`), so that tokens, batch and context may be Python
floats or numpy arrays of one shape; the result has that shape. Knows no model, engine or schedule.

What the coefficients mean (all dimensionless unless the name carries a unit):

* `mem_fraction` share of the memory bandwidth that streaming 16-bit weights reaches; `fp8_mem`,
  `int8_mem`, `int4_mem`, `fp4_mem`, `gguf_mem`, `moe_mem` scale it for packed formats (unpacking)
  and for grouped expert kernels; `kv_fraction` the same for reading the KV cache, which `narrow_kv`
  scales for cache formats of less than 16 bits; `narrow_kv_read` bytes of such a cache that the multiprocessors
  widen per FLOP of the 16-bit peak, which limits them where memory is faster than that.
* `flop_fraction` share of the dense 16-bit peak that a multiply with very wide matrices reaches, and
  `half_width` the hidden size at which it reaches half of that; `fp8_flop`,
  `int8_flop`, `fp4_flop` scale it for native narrow formats, `dequant_flop` and `fp4_dequant_flop`
  for kernels that widen weights before a 16-bit multiply, `gguf_flop` for ggml's kernels,
  `moe_flop` for grouped experts, and `fp8_moe_flop` once more for those in FP8.
* `tile_tokens` a multiply of T tokens costs as much as one of T + tile_tokens that runs at full
  rate (partly filled tiles); `expert_tile_tokens` the same for the tokens of each touched expert.
* `attention_flop_fraction` share of the 16-bit peak that attention over a prompt reaches.
* `expert_half_width` columns at which a slice of an expert multiplies at half the rate of a wide one.
* `int4_unpack` bytes of 4-bit integers that the multiprocessors widen per FLOP of the 16-bit peak: what limits
  weight-only kernels where memory is faster than that.
* `fp8_tile` bytes of FP8 weights per FLOP of the 16-bit peak that kernels take in with more than SMALL_TILE_ROWS
  rows: the next larger tile reads its activations anew for each slice of the weights.
* `dequant_sharpness` the knee of kernels that widen packed weights before the multiply: unpacking and
  multiplying share the multiprocessors, so they overlap less than copying and multiplying do.
* `quant_passes` how many of those a layer whose activations are narrowed has more (native FP8, INT8, FP4).
* `norm_s` seconds per norm between blocks, `inner_norm_s` per norm inside a mixer (of query and key
  heads, of latents): launches of their own that `layer_s` does not count.
* `sync_step_s`, `sync_seq_s` what a release that plans a step only after the last one has ended keeps the
  device waiting for, per step and per sequence.
* `layer_s`, `moe_layer_s`, `mixer_layer_s` fixed seconds per decoder layer, per MoE layer, per
  recurrent layer and step (launches, norms, routing), `fp4_moe_layer_s` per MoE layer in fused 4-bit
  kernels; `step_s` and `seq_s` the engine's own cost per step and per running sequence; `request_s` and
  `prompt_token_s` per request and per token of its prompt before the first token (front end).
* `launch_layer_s` seconds per layer that the host needs to launch a step with prompts, at least; `piece_layer_s`
  seconds per layer that the device waits where attention runs between the pieces of a graph. Its cautious value is
  between two published before-and-after runs of 28 layers: 7 % of a step of some 3 ms (vLLM pull request 16072), and
  0.35 ms of a median TPOT of 15.1 ms (pull request 20059).
* `quant_layer_s` seconds per layer whose activations are narrowed on the fly (native FP8, INT8, FP4);
  `dequant_layer_s` per layer whose weights are widened (launch and tail of kernels that split and add up).
* `expert_evenness` shape of the gamma distribution of how often experts are chosen (large: evenly), which
  decides how many distinct ones a batch touches.
* `expert_skew` how much longer the busiest of several expert ranks takes than the mean one.
* `activation_passes` how often a layer reads or writes its hidden state per token (norms, residual sums):
  every device of a tensor group does so in full. `slice_passes` the same for what is split among them
  (rotation, gates, what attention and multiplies hand on), in widths of the hidden state.
* `link_fraction` share of the link bandwidth that an all-reduce reaches; `link_latencies` how many
  link latencies a round of an all-reduce takes (n devices: 1 + log2 n rounds), `stage_latencies` how many
  more one in two stages does.
* `sharpness` exponent of the roofline's knee: time = (compute^p + memory^p)^(1/p).
"""

from __future__ import annotations

from math import log, log2
from typing import Final

Quantity = float
"""A Python float, or a numpy array of floats."""

UNCALIBRATED: Final[dict[str, float]] = {
    "mem_fraction": 0.7,
    "fp8_mem": 0.95,
    "int8_mem": 0.9,
    "int4_mem": 0.9,
    "int4_unpack": 0.02,
    "fp4_mem": 0.75,
    "fp8_tile": 1.0,
    "gguf_mem": 0.85,
    "moe_mem": 0.8,
    "kv_fraction": 0.6,
    "narrow_kv": 0.8,
    "narrow_kv_read": 1.0,
    "flop_fraction": 0.6,
    "half_width": 400.0,
    "fp8_flop": 0.8,
    "int8_flop": 0.8,
    "fp4_flop": 0.6,
    "dequant_flop": 0.95,
    "fp4_dequant_flop": 0.6,
    "gguf_flop": 0.5,
    "moe_flop": 0.6,
    "fp8_moe_flop": 0.8,
    "dequant_sharpness": 2.0,
    "quant_passes": 6.0,
    "tile_tokens": 16.0,
    "expert_tile_tokens": 8.0,
    "expert_half_width": 64.0,
    "attention_flop_fraction": 0.3,
    "layer_s": 2.5e-5,
    "moe_layer_s": 2.0e-5,
    "fp4_moe_layer_s": 2.0e-5,
    "launch_layer_s": 1.0e-4,
    "piece_layer_s": 1.0e-5,
    "mixer_layer_s": 2.0e-5,
    "norm_s": 2.0e-6,
    "inner_norm_s": 1.0e-5,
    "sync_step_s": 5.0e-4,
    "sync_seq_s": 3.0e-5,
    "quant_layer_s": 4.0e-6,
    "dequant_layer_s": 1.5e-5,
    "expert_evenness": 1.6,
    "expert_skew": 1.2,
    "step_s": 5.0e-4,
    "seq_s": 5.0e-6,
    "request_s": 5.0e-3,
    "prompt_token_s": 1.0e-6,
    "activation_passes": 6.0,
    "slice_passes": 8.0,
    "link_fraction": 0.75,
    "link_latencies": 2.0,
    "stage_latencies": 4.0,
    "sharpness": 3.0,
}
"""Cautious values for what no calibration says; figures made of them are called `uncalibrated`."""


def knee(compute_s: Quantity, memory_s: Quantity, sharpness: float) -> Quantity:
    """Seconds of an operator that overlaps `compute_s` and `memory_s`; at least the longer of them."""
    p: Quantity = (compute_s**sharpness + memory_s**sharpness) ** (1.0 / sharpness)
    return p


SMALL_TILE_ROWS: Final = 16.0
"""Rows of the smallest tile of vLLM's FP8 kernels on Hopper; the next has 64. Source: vLLM
csrc/quantization/w8a8/cutlass/c3x/scaled_mm_sm90_fp8_dispatch.cuh."""


def beyond(rows: Quantity, limit: float) -> Quantity:
    """0 up to `limit`, 1 from `limit` + 1 on, linear between."""
    past = rows - limit
    return (abs(past) + 1.0 - abs(past - 1.0)) / 2.0


def lesser(a: Quantity, b: Quantity) -> Quantity:
    """The smaller of two, for floats and arrays alike."""
    return (a + b - abs(a - b)) / 2.0


def gemm_s(
    tokens: Quantity,
    elements: float,
    weight_bytes: Quantity,
    flops_per_s: float,
    bytes_per_s: float,
    tile_tokens: float,
    sharpness: float,
) -> Quantity:
    """Matrices of `elements` weights in all times `tokens` columns; rates are what is achieved."""
    compute_s = 2.0 * elements * (tokens + tile_tokens) / flops_per_s
    return knee(compute_s, weight_bytes / bytes_per_s, sharpness)


def experts_touched(tokens: Quantity, experts: int, per_token: int, evenness: float) -> Quantity:
    """Expected number of distinct experts that `tokens` tokens are sent to; `per_token` for one.

    Experts are chosen at rates that differ by a gamma distribution of shape `evenness`: all alike when
    it is large.
    """
    if per_token >= experts:
        return experts + 0.0 * tokens
    first = lesser(tokens, 1.0)
    draws = (tokens - first) * -log(1.0 - per_token / experts)
    untouched = (experts - per_token) * (1.0 + draws / evenness) ** -evenness
    touched: Quantity = first * (experts - untouched)
    return touched


def grouped_gemm_s(
    tokens: Quantity,
    experts: int,
    per_token: int,
    expert_elements: float,
    expert_bytes: float,
    flops_per_s: float,
    bytes_per_s: float,
    tile_tokens: float,
    sharpness: float,
    evenness: float,
) -> Quantity:
    """Routed experts of all MoE layers: `expert_elements` and `_bytes` are one expert's, over layers.

    Each touched expert's weights are read once, and its last tile is partly empty.
    """
    touched = experts_touched(tokens, experts, per_token, evenness)
    compute_s = 2.0 * expert_elements * (tokens * per_token + touched * tile_tokens) / flops_per_s
    return knee(compute_s, touched * expert_bytes / bytes_per_s, sharpness)


def attended_tokens(new: Quantity, context: Quantity, window: float | None) -> Quantity:
    """Sum over `new` prompt tokens after `context` earlier ones of the tokens each attends to.

    With a sliding window of w, each position attends to min(position, w) tokens.
    """
    end = context + new
    whole = (end * end - context * context) / 2.0
    if window is None:
        return whole
    inside_end, inside_start = lesser(end, window), lesser(context, window)
    return (inside_end * inside_end - inside_start * inside_start) / 2.0 + window * (
        end - inside_end - (context - inside_start)
    )


def allreduce_s(
    payload_bytes: Quantity,
    devices: int,
    bytes_per_s: float,
    latency_s: float,
    stage_s: float,
    reduces: bool = False,
    one_stage_bytes: float | None = None,
) -> Quantity:
    """All-reduce among `devices` in one stage or in two, whichever is shorter.

    In one, every device reads all others' payloads. In two (`stage_s` longer), each reduces a share and
    hands it on: 2 (n − 1)/n of the payload crosses each link, or 1 + 1/n where the switch `reduces`. Kernels that go by
    a size, not by what is shorter, reduce payloads of `one_stage_bytes` or more in two.
    """
    if devices <= 1:
        return 0.0 * payload_bytes
    crossing = 2.0 * (devices - 1) / devices
    if reduces:
        crossing = min(crossing, 1.0 + 1.0 / devices)
    direct = (devices - 1) * payload_bytes / bytes_per_s
    staged = stage_s + crossing * payload_bytes / bytes_per_s
    best = lesser(direct, staged)
    if one_stage_bytes is not None:
        best = best + beyond(payload_bytes, one_stage_bytes - 1.0) * (staged - best)
    return latency_s * (1.0 + log2(devices)) + best


def exchange_s(payload_bytes: Quantity, devices: int, bytes_per_s: float, latency_s: float) -> Quantity:
    """All-gather and reduce-scatter among `devices`: 2 (n − 1)/n of the payload crosses each link."""
    if devices <= 1:
        return 0.0 * payload_bytes
    return latency_s * (1.0 + log2(devices)) + 2.0 * (devices - 1) / devices * payload_bytes / bytes_per_s


def hop_s(payload_bytes: Quantity, bytes_per_s: float, latency_s: float) -> Quantity:
    """A point-to-point send between pipeline stages."""
    return latency_s + payload_bytes / bytes_per_s
