"""Text Generation Inference: what it holds after the warm-up that sizes its KV blocks.

Read from server/text_generation_server/models/flash_causal_lm.py and models/globals.py of 3.3: one
prefill of max_batch_prefill_tokens runs, the allocator keeps its peak, and blocks are counted on what
is free of total × CUDA_MEMORY_FRACTION × TGI_WIGGLE_ROOM (0.90). Graphs for batches 1 … 32 are captured
afterwards. Not modelled: adapters, images.
"""

from __future__ import annotations

from planner.estimate.overheads.vllm import ELEMENT, Overheads
from planner.estimate.overheads.widths import widths
from planner.spec.model import ModelSpec
from planner.units import GIB, MIB, ceil_div


def overheads(model: ModelSpec, k: dict[str, float], *, tp: int, prefill_tokens: int, max_model_len: int) -> Overheads:
    """Bytes on one device besides weights and KV. The warm-up batch has one row per full context."""
    w = widths(model, tp, 1)
    rows = max(1, ceil_div(prefill_tokens, max_model_len))
    experts = prefill_tokens * w.moe_rows * (w.moe_first + w.moe_second) * ELEMENT
    per_token = (w.widest + k["hidden_copies"] * w.hidden) * ELEMENT
    forward = prefill_tokens * per_token + experts
    logits = rows * w.vocab * 4 * k["logit_copies"]
    activation = round(max(forward, prefill_tokens * w.hidden * ELEMENT + logits) + k["forward_fixed_bytes"])
    runtime = k["runtime_bytes"] + (k["runtime_parallel_bytes"] if tp > 1 else 0)
    return Overheads(
        activation_bytes=activation,
        graphs_bytes=round(k["graph_bytes"]),
        deducted_graphs_bytes=0,
        runtime_bytes=round(runtime),
        activation_formula=f"{prefill_tokens} tokens × ({w.widest} + {k['hidden_copies']:g} × {w.hidden}) × 2 B "
        f"+ {experts / MIB:.0f} MiB of experts + {k['forward_fixed_bytes'] / MIB:.0f} MiB",
        graphs_formula=f"{k['graph_bytes'] / MIB:.0f} MiB for batches of 1 to 32",
        runtime_formula=f"{runtime / GIB:.2f} GiB of context, kernels{' and NCCL' if tp > 1 else ''}",
    )
