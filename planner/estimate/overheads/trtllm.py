"""TensorRT-LLM: activation buffers and context of one device.

Laws of the same shape as vLLM's forward pass; no start-up log with the parts apart is known, so its
coefficients are estimates. KV is a fraction of what is then free (`memory`).
"""

from __future__ import annotations

from planner.estimate.overheads.vllm import ELEMENT, Overheads
from planner.estimate.overheads.widths import widths
from planner.spec.model import ModelSpec
from planner.units import GIB


def overheads(
    model: ModelSpec, k: dict[str, float], *, tp: int, ep: int, tokens: int, rows: int, world: int
) -> Overheads:
    """Bytes on one device besides weights and KV."""
    w = widths(model, tp, ep)
    experts = tokens * w.moe_rows * (w.moe_first + w.moe_second) * ELEMENT
    forward = tokens * (w.widest + k["hidden_copies"] * w.hidden) * ELEMENT + experts
    activation = round(forward + rows * w.vocab * 4 + k["forward_fixed_bytes"])
    runtime = k["runtime_bytes"] + (k["runtime_parallel_bytes"] if world > 1 else 0)
    return Overheads(
        activation_bytes=activation,
        graphs_bytes=0,
        deducted_graphs_bytes=0,
        runtime_bytes=round(runtime),
        activation_formula=f"{tokens} tokens × ({w.widest} + {k['hidden_copies']:g} × {w.hidden}) × 2 B + logits of "
        f"{rows} sequences",
        graphs_formula="",
        runtime_formula=f"{runtime / GIB:.2f} GiB of context and kernels",
    )
