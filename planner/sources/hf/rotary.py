"""Tables of rotary embeddings that are not one of the model's context for each head width.

Partial rotation makes them narrower; rotation in three axes (M-RoPE, Qwen's and GLM's vision models) has
four times the positions, for long videos. Source: vLLM 0.26 model_executor/layers/rotary_embedding.
"""

from __future__ import annotations

from planner.sources.hf.common import Config, Decoder
from planner.spec.model import Attention, Mla, RotaryTable

MROPE_POSITIONS = 4


def tables(c: Config, decoder: Decoder, *, times: int = 1, share: float = 1.0) -> tuple[RotaryTable, ...]:
    """One table per width, with `times` the context's positions; empty where that is the rule anyway.

    `share` of a head is rotated where the config does not say.
    """
    share = _rotated_share(c) or share
    if times == 1 and share == 1:
        return ()
    first: dict[int, int] = {}
    for layer, plan in enumerate(decoder.layers):
        for mixer in plan.mixers:
            if isinstance(mixer, Mla):
                first.setdefault(mixer.qk_rope_head_dim, layer)
            elif isinstance(mixer, Attention):
                first.setdefault(int(mixer.head_dim * share), layer)
    positions = decoder.context_length * times
    return tuple(RotaryTable(positions=positions, width=w, first_layer=at) for w, at in first.items() if w)


def _rotated_share(c: Config) -> float:
    """`partial_rotary_factor`, of the text part; 0 where there is none."""
    text = c.sub("text_config")
    for table in (c, text, c.sub("rope_parameters"), text.sub("rope_parameters")):
        share = table.data.get("partial_rotary_factor")
        if isinstance(share, int | float) and 0 < share <= 1:
            return share
    return 0.0
