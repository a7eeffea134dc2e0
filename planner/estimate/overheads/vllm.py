"""vLLM: activation peak, CUDA graphs and runtime memory of one device, by version.

The peak is that of vLLM's own start-up profile (`profile_run`: one forward pass over
max_num_batched_tokens, then the sampler over max_num_seqs rows), read from v1/worker/gpu_worker.py,
gpu_model_runner.py, gpu/model_runner.py, gpu/sample and fused_moe of 0.26.0 and 0.33.0:

    experts  = tokens × top-k × (max(I, h) + max(2I, h)) × 2 B              kept in the workspace manager
    forward  = tokens × (3 I + 3 h) × 2 B + fixed                           gate, up and activation; 3 × hidden
    sampler  = tokens × h × 2 B + rows × (2 h × 2 B + copies × vocab × 4 B) + fixed
    peak     = experts + max(forward, sampler)

A dense layer before the first experts runs without their workspace; latent attention holds its up-projected
context instead of the projections, not with them; fused kernels (MXFP4) keep no workspace.

`copies` of the logits in fp32: bf16 counts one half. The V1 runner keeps 0.5 + 1 (fp32) + 1
(softmax) + 1 (exponential noise) and a top-k buffer of one vocabulary row per multiprocessor; the V2
runner fewer. Which runner runs, whether graphs are deducted inside the utilisation, and what a graph
costs are coefficients of the release. Not modelled: speculative drafts, LoRA, the activations of
vision towers (only the embeddings they leave behind).
"""

from __future__ import annotations

from planner.estimate.overheads.widths import Widths, widths
from planner.records import dataclass
from planner.spec.model import ModelSpec
from planner.units import GIB, MIB, ceil_div

ELEMENT = 2  # activations are 16 bits
MLA_CONTEXT_TOKENS = 65536  # most cached tokens of latent attention projected up at once


@dataclass(frozen=True, slots=True)
class Overheads:
    """Bytes on one device, with the sum behind each. `deducted_graphs_bytes` come out of the budget."""

    activation_bytes: int
    graphs_bytes: int
    deducted_graphs_bytes: int
    runtime_bytes: int
    activation_formula: str
    graphs_formula: str
    runtime_formula: str


def overheads(
    model: ModelSpec,
    k: dict[str, float],
    *,
    tp: int,
    ep: int,
    layers: int,
    first_stage: bool,
    last_stage: bool,
    world: int,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    max_model_len: int,
    graph_max_size: int,
    hybrid: bool,
    multimodal: bool,
    fused_experts: bool = False,
    second_runner: bool = False,
) -> Overheads:
    """What vLLM takes besides weights and KV on a device of `layers` layers.

    `k`: the release's coefficients. `fused_experts`: MXFP4 kernels of Hopper and Blackwell, which take
    most of their scratch only while they run. `second_runner`: the V2 runner whatever the kind of model.
    """
    w = widths(model, tp, ep)
    v2 = k["v2_runner_moe"] if w.moe_rows else k["v2_runner_hybrid"] if hybrid else k["v2_runner_dense"]
    v2 = v2 or second_runner
    rows = min(max_num_seqs, max_num_batched_tokens)
    activation, formula = _activation(
        w,
        k,
        bool(v2),
        max_num_batched_tokens,
        rows if last_stage else 0,
        tp if first_stage else 0,
        max_model_len,
        multimodal,
        hybrid,
        fused_experts,
    )
    sizes = capture_sizes(min(graph_max_size, 2 * max_num_seqs, max_num_batched_tokens))
    other = (w.moe_rows or hybrid) and not second_runner
    per_graph = k["graph_bytes_per_layer_other" if other else "graph_bytes_per_layer_dense"]
    if fused_experts:
        per_graph = k.get("graph_bytes_per_layer_fused", per_graph)
    graphs = round(k["graph_fixed_bytes"] + sizes * layers * per_graph) if sizes else 0
    share = k["graphs_deducted_v2"] if v2 else k["graphs_deducted_v1"]
    runtime = k["runtime_bytes"] + (k["runtime_moe_bytes"] if w.moe_rows else 0)
    how = f"{runtime / GIB:.2f} GiB of kernels and context"
    if world > 1:
        runtime += k["runtime_parallel_bytes"]
        how += f" + {k['runtime_parallel_bytes'] / GIB:.2f} GiB of NCCL and all-reduce buffers"
    return Overheads(
        activation_bytes=activation,
        graphs_bytes=graphs,
        deducted_graphs_bytes=round(graphs * share),
        runtime_bytes=round(runtime),
        activation_formula=formula,
        graphs_formula=f"{k['graph_fixed_bytes'] / MIB:.0f} MiB + {sizes} sizes × {layers} layers × "
        f"{per_graph / 1024:.0f} KiB",
        runtime_formula=how,
    )


def _activation(
    w: Widths,
    k: dict[str, float],
    v2: bool,
    tokens: int,
    rows: int,
    table_shards: int,
    max_model_len: int,
    multimodal: bool,
    hybrid: bool,
    fused_experts: bool,
) -> tuple[int, str]:
    """Peak of the profile run, and the sum behind it.

    `table_shards`: devices that share the table of embeddings, of which the V2 runner's first pass holds a copy beside
    the hidden states; 0 on a stage without it.
    """
    hidden, copies, fixed = w.hidden * ELEMENT, k["hidden_copies"], k["forward_fixed_bytes"]
    experts = 0 if fused_experts else tokens * w.moe_rows * (w.moe_first + w.moe_second) * ELEMENT
    beside = tokens * copies * hidden + fixed + tokens * w.router * 4
    if fused_experts:
        beside += tokens * w.moe_rows * (3 * w.moe_intermediate + w.hidden) * ELEMENT
    context = min(max(8 * max_model_len, 64 * max(rows, 1)), MLA_CONTEXT_TOKENS) if w.mla_up else 0
    widest = max(w.mixer, w.beside_experts if w.moe_rows else w.ffn)
    layer = beside + max(tokens * widest, context * w.mla_up) * ELEMENT
    dense = tokens * (w.ffn * ELEMENT + copies * hidden) + fixed
    logits = k["logit_copies_v2" if v2 else "logit_copies_v1"]
    sampler = 0.0
    if rows:
        sampler = tokens * hidden + rows * (2 * hidden + logits * w.vocab * 4) + k["sampler_fixed_bytes"]
        if not v2:
            sampler += k["topk_buffer_rows"] * w.vocab * 4
    table = 0.0
    if v2 and table_shards:
        table = k.get("embedding_copies_v2", 0) * ceil_div(w.vocab, table_shards) * hidden + 2 * tokens * hidden
    base = max(layer, sampler, dense - experts)
    images = k["image_embedding_copies"] * tokens * hidden if multimodal else 0
    if table > base + experts:
        base, experts = table, 0
        text = f"({ceil_div(w.vocab, table_shards)} embeddings + 2 × {tokens} tokens) × {w.hidden} × 2 B"
    elif base == sampler:
        text = (
            f"{tokens} tokens × {w.hidden} × 2 B + {rows} sequences × ({logits:g} × {w.vocab} × 4 B "
            f"+ 2 × {w.hidden} × 2 B) + buffers"
        )
    elif context * w.mla_up > tokens * widest and base == layer:
        text = f"{context} cached tokens × {w.mla_up} × 2 B + {tokens} × {copies:g} × {w.hidden} × 2 B"
        text += f" + {fixed / MIB:.0f} MiB"
    else:
        width = widest if base == layer else w.ffn
        text = f"{tokens} tokens × ({width} + {copies:g} × {w.hidden}) × 2 B + {fixed / MIB:.0f} MiB"
        if fused_experts:
            text += f" + {tokens} × {w.moe_rows} experts × (3 × {w.moe_intermediate} + {w.hidden}) × 2 B"
    if experts:
        text += f" + {tokens} × {w.moe_rows} experts × {w.moe_first + w.moe_second} × 2 B"
    if images:
        text += f" + {k['image_embedding_copies']:g} × {tokens} image embeddings"
    recurrent = k["recurrent_fixed_bytes"] if hybrid else 0
    if recurrent:
        text += f" + {recurrent / MIB:.0f} MiB of linear attention"
    return round(base + experts + images + recurrent), text


def capture_sizes(largest: int) -> int:
    """How many batch sizes are captured as graphs: 1, 2, 4, every 8 below 256, every 16 up to `largest`."""
    if largest < 1:
        return 0
    small = sum(size <= largest for size in (1, 2, 4))
    return small + min(largest, 255) // 8 + max(0, ceil_div(largest - 255, 16))
