"""How wide a model's layers are on one device: what activation laws multiply with tokens.

Knows no engine. Widths are elements per token (or bytes where the name says so), after tensor and
expert parallelism.
"""

from __future__ import annotations

from collections.abc import Iterator

from planner.estimate.identity import remembered
from planner.records import dataclass
from planner.spec.model import (
    Attention,
    DenseFfn,
    Ffn,
    GatedDeltaNet,
    Mamba1,
    Mamba2,
    Mixer,
    Mla,
    ModelSpec,
    MoeFfn,
)
from planner.units import ceil_div


@dataclass(frozen=True, slots=True)
class Widths:
    """Widest layer of each kind, elements per token on one device.

    `ffn`: first matmul's output and activation of the widest dense or shared MLP, `beside_experts` of the
    widest that runs in the layers of experts. `mixer`: the projections and output of the widest mixer.
    `moe_rows`: experts a token is sent to, `moe_first` and `moe_second` what one such row takes in the two
    workspaces of the expert kernels, and `moe_intermediate` its activation. `mla_up`: elements that one cached
    token of latent attention becomes when it is projected up.
    """

    hidden: int
    vocab: int
    ffn: int
    beside_experts: int
    mixer: int
    moe_rows: int
    moe_first: int
    moe_second: int
    moe_intermediate: int
    router: int
    mla_up: int

    @property
    def widest(self) -> int:
        """Elements per token of the widest layer, workspaces of experts excepted."""
        return max(self.ffn, self.mixer)


@remembered
def widths(model: ModelSpec, tp: int, ep: int) -> Widths:
    """Widths of `model` on one of `tp` devices, experts whole on `ep` ranks (1: split like linears)."""
    ffns = [_ffn(f, tp) for f in _ffns(model)]
    moes = [f for f in _ffns(model) if isinstance(f, MoeFfn)]
    moe_tp = 1 if ep > 1 else tp
    firsts = [max(ceil_div(f.intermediate, moe_tp), f.input_dim or model.hidden_size) for f in moes]
    seconds = [
        max(ceil_div(f.intermediate, moe_tp) * (2 if f.gated else 1), f.input_dim or model.hidden_size) for f in moes
    ]
    return Widths(
        hidden=model.hidden_size,
        vocab=model.vocab_size,
        ffn=max(ffns, default=0),
        beside_experts=max((_ffn(f, tp) for f in moes), default=0),
        mixer=max((_mixer(m, tp) for g in model.layers for m in g.mixers), default=0),
        moe_rows=max((f.experts_per_token for f in moes), default=0),
        moe_first=max(firsts, default=0),
        moe_second=max(seconds, default=0),
        moe_intermediate=max((ceil_div(f.intermediate, moe_tp) for f in moes), default=0),
        router=max((f.experts for f in moes), default=0),
        mla_up=max(
            (
                ceil_div(m.heads, tp) * (m.qk_nope_head_dim + m.v_head_dim)
                for g in model.layers
                for m in g.mixers
                if isinstance(m, Mla) and not m.output_groups
            ),
            default=0,
        ),
    )


def _ffns(model: ModelSpec) -> Iterator[Ffn]:
    for group in model.layers:
        yield from group.ffns


def _ffn(ffn: Ffn, tp: int) -> int:
    """Outputs of the first matmul (gate and up) and of the activation."""
    if isinstance(ffn, DenseFfn):
        return (3 if ffn.gated else 2) * ceil_div(ffn.intermediate, tp)
    beside = max(ffn.shared_intermediate, ffn.dense_intermediate)
    return 3 * ceil_div(beside, tp)


def _mixer(mixer: Mixer, tp: int) -> int:
    """Projections in, and what the mixer gives back."""
    if isinstance(mixer, Attention):
        query = ceil_div(mixer.heads, tp) * mixer.head_dim
        kv = max(1, ceil_div(mixer.kv_heads, tp)) * (mixer.head_dim + (mixer.v_head_dim or mixer.head_dim))
        return query * (3 if mixer.gated_query else 2) + kv
    if isinstance(mixer, Mla):
        heads = ceil_div(mixer.heads, tp)
        query = heads * (mixer.qk_nope_head_dim + mixer.qk_rope_head_dim)
        return 2 * query + heads * (mixer.qk_nope_head_dim + 2 * mixer.v_head_dim)
    if isinstance(mixer, GatedDeltaNet):
        k, v = mixer.k_heads * mixer.k_head_dim, mixer.v_heads * mixer.v_head_dim
        return ceil_div(2 * k + 2 * v + 2 * k + v + v, tp)
    if isinstance(mixer, Mamba2):
        channels = mixer.d_inner + 2 * mixer.groups * mixer.state_dim
        return ceil_div(mixer.d_inner + 2 * channels + mixer.d_inner, tp)
    if isinstance(mixer, Mamba1):
        return ceil_div(4 * mixer.d_inner, tp)
    return ceil_div(5 * mixer.dim, tp)
