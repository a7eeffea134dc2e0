"""vLLM on Gaudi: what is in use after load and profile run.

The rest of the accounting (utilisation of free memory, share for graphs) is in `memory`. From two
start-up logs of 8B models on Gaudi 2 (vllm-fork README and vllm-gaudi documentation): total − weights −
profile is what is then free, to 0.01 GiB, so there is no context besides.
"""

from __future__ import annotations

from planner.estimate.overheads.vllm import ELEMENT, Overheads
from planner.estimate.overheads.widths import widths
from planner.spec.model import ModelSpec
from planner.units import GIB


def overheads(
    model: ModelSpec, k: dict[str, float], *, tp: int, ep: int, tokens: int, rows: int, world: int
) -> Overheads:
    """Bytes on one device besides weights, KV and graphs."""
    w = widths(model, tp, ep)
    experts = tokens * w.moe_rows * (w.moe_first + w.moe_second) * ELEMENT
    activation = round(tokens * (w.widest + k["hidden_copies"] * w.hidden) * ELEMENT + experts + rows * w.vocab * 4)
    runtime = k["runtime_parallel_bytes"] if world > 1 else 0
    return Overheads(
        activation_bytes=activation,
        graphs_bytes=0,
        deducted_graphs_bytes=0,
        runtime_bytes=round(runtime),
        activation_formula=f"{tokens} tokens × ({w.widest} + {k['hidden_copies']:g} × {w.hidden}) × 2 B + logits",
        graphs_formula="",
        runtime_formula=f"{runtime / GIB:.2f} GiB of collective buffers",
    )
