"""llama.cpp and Ollama: compute buffers, context and Metal's limit.

Compute buffers are scratch memory for one micro-batch in fp32, as the graph allocator reserves it.
Read off load logs: with flash attention the output step dominates, micro-batch × (vocabulary + k ×
hidden) × 4 B (258.50 MiB Llama 3 8B, 304.75 Qwen3-30B-A3B, 312.75 Qwen3-235B, 522.62 Gemma 3 27B; k is
2 with experts, else 1); a device without the output holds what one layer needs (144.00 MiB for
Qwen3-235B: experts × (hidden + 2 × intermediate) + 4 × hidden). Without flash attention the scores
dominate: heads × context + context + 4 × hidden (1104 MiB Llama 70B at 8192, 8480 MiB at 131072).
Not modelled: draft models, per-backend quirks of Vulkan and SYCL.
"""

from __future__ import annotations

from planner.estimate.identity import remembered
from planner.spec.model import Attention, DenseFfn, Mla, ModelSpec, MoeFfn
from planner.units import ceil_div, round_up

SCRATCH = 4  # bytes of one element of a compute buffer
MASK = 2  # bytes of one element of the attention mask with flash attention
CELL_PADDING = 256
PIPELINE_COPIES = 4  # copies of the inputs that llama.cpp keeps when several GPUs work in a pipeline


@remembered
def layer_elements(model: ModelSpec) -> int:
    """Elements per token that the widest layer needs as scratch."""
    h, widest = model.hidden_size, 0
    for group in model.layers:
        for ffn in group.ffns:
            if isinstance(ffn, MoeFfn):
                width = ffn.input_dim or h
                widest = max(widest, ffn.experts_per_token * (width + 2 * ffn.intermediate) + 4 * h)
                widest = max(widest, 2 * ffn.shared_intermediate + 4 * h, 2 * ffn.dense_intermediate + 4 * h)
            elif isinstance(ffn, DenseFfn):
                widest = max(widest, 2 * ffn.intermediate + 3 * h)
        for mixer in group.mixers:
            if isinstance(mixer, Attention):
                widest = max(widest, (2 * mixer.heads + 2 * mixer.kv_heads) * mixer.head_dim + 2 * h)
            elif isinstance(mixer, Mla):
                widest = max(widest, 2 * mixer.heads * (mixer.kv_lora_rank + mixer.qk_rope_head_dim) + 2 * h)
    return widest


@remembered
def attention_heads(model: ModelSpec) -> int:
    """Most query heads of any layer; 0 without softmax attention."""
    return max((m.heads for g in model.layers for m in g.mixers if isinstance(m, (Attention, Mla))), default=0)


def compute_buffer_bytes(
    model: ModelSpec, *, cells: int, n_ubatch: int, flash_attention: bool, has_output: bool, devices: int = 1
) -> int:
    """Compute buffer of one device in bytes.

    `cells` is the context that one micro-batch attends to; `has_output`: the head is on this device.
    """
    h = model.hidden_size
    context = round_up(cells, CELL_PADDING)
    copies = PIPELINE_COPIES if devices > 1 else 1
    layer = SCRATCH * n_ubatch * layer_elements(model)
    if flash_attention:
        layer += MASK * n_ubatch * context * copies if devices > 1 else 0
    elif attention_heads(model):
        scores = SCRATCH * n_ubatch * (attention_heads(model) * context + context + 4 * h)
        layer = max(layer, scores)
    if not has_output:
        return layer
    norms = 2 if model.is_moe else 1
    return max(layer, SCRATCH * n_ubatch * (model.vocab_size + norms * h))


def host_buffer_bytes(model: ModelSpec, *, cells: int, n_ubatch: int) -> int:
    """Inputs kept in pinned host memory: embeddings of a micro-batch and the attention mask."""
    return SCRATCH * n_ubatch * (round_up(cells, CELL_PADDING) + 2 * model.hidden_size)


def output_buffer_bytes(model: ModelSpec, n_parallel: int) -> int:
    """Logits handed to the sampler, in host memory: one row for each slot."""
    return ceil_div(SCRATCH * model.vocab_size * max(1, n_parallel), 1)
