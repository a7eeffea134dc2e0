"""Over how many devices a model splits evenly, tensor by tensor: what engines assert when they start.

Knows shapes, and no engine's kernels or memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from planner.spec.hardware import Machine
from planner.spec.model import Ffn, ModelSpec


def attention_heads(model: ModelSpec) -> tuple[int, ...]:
    """The query-head counts of the model's attention layers; tensor parallel must divide each."""
    found = {m.heads for group in model.layers for m in group.mixers if m.kind in ("attention", "mla")}
    return tuple(sorted(found))


def undivided(model: ModelSpec, tensor: int, *, experts_whole: bool = False) -> str:
    """What of `model` does not split evenly over `tensor` devices, for a message; empty where all does.

    Query heads and the columns of MLPs and experts must divide; KV heads must, or each be kept by several devices
    (vLLM's model files assert it, its linear layers and fused experts the rest; of 0.33). `experts_whole`: experts lie
    on ranks of their own.
    """
    odd = [heads for heads in attention_heads(model) if heads % tensor]
    if odd:
        return f"the {', '.join(map(str, odd))} attention heads"
    for group in model.layers:
        for mixer in group.mixers:
            if mixer.kind == "attention" and mixer.kv_heads % tensor and tensor % mixer.kv_heads:
                return f"the {mixer.kv_heads} KV heads"
        for width in _widths(group.ffns, experts_whole):
            if width % tensor:
                return f"the {width:,} columns of an MLP"
    return ""


def _widths(ffns: Iterable[Ffn], experts_whole: bool) -> Iterator[int]:
    for ffn in ffns:
        if ffn.kind == "dense":
            yield ffn.intermediate
        elif not experts_whole:
            yield from (ffn.intermediate, ffn.shared_intermediate, ffn.dense_intermediate)


def divides(model: ModelSpec, tensor: int, *, experts_whole: bool = False) -> bool:
    """True when `model` splits evenly over `tensor` devices."""
    return tensor == 1 or not undivided(model, tensor, experts_whole=experts_whole)


def valid_tensors(model: ModelSpec, machine: Machine) -> str:
    """Tensor parallel sizes of `machine` that divide `model`, for a message."""
    valid = [t for t in range(1, machine.count + 1) if divides(model, t)]
    return f"valid on {machine.count} device{'s' * (machine.count > 1)}: {', '.join(map(str, valid))}"
