"""Architectures of one model each: per-layer head counts, widths or windows.

MiMo-V2-Flash and Nemotron-NAS (Llama pruned layer by layer). Source: their modelling files
(transformers 5.23.0, or the checkpoint repository's own).
"""

from __future__ import annotations

from planner.errors import FormatError
from planner.sources.hf.common import Config, Decoder, LayerPlan, Reader, gated, moe, simple
from planner.spec.model import Attention, DenseFfn, Ffn, Mixer


def mimo_v2_flash(c: Config) -> Decoder:
    """Five windowed layers to one full, each kind with its own heads; V narrower than K; sinks."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    pattern = c.sequence("hybrid_layer_pattern") or [0] * n
    sparse = c.sequence("moe_layer_freq") or [1] * n
    if len(pattern) < n or len(sparse) < n:
        raise FormatError(f"config key {c.path}hybrid_layer_pattern or moe_layer_freq is shorter than {n} layers")
    full = Attention(
        heads=c.positive("num_attention_heads"),
        kv_heads=c.positive("num_key_value_heads"),
        head_dim=c.positive("head_dim"),
        v_head_dim=c.positive("v_head_dim"),
        sinks=c.flag("add_full_attention_sink_bias"),
    )
    windowed = Attention(
        heads=c.positive("swa_num_attention_heads"),
        kv_heads=c.positive("swa_num_key_value_heads"),
        head_dim=c.positive("swa_head_dim"),
        v_head_dim=c.positive("swa_v_head_dim"),
        window_tokens=c.positive("sliding_window"),
        sinks=c.flag("add_swa_attention_sink_bias"),
    )
    experts = moe(c, router_bias=True)
    plans = []
    for i in range(n):
        ffn: Ffn = experts if sparse[i] else gated(c)
        plans.append(LayerPlan((windowed if pattern[i] else full,), (ffn,), 2 * h))
    return simple(c, plans)


def nemotron_nas(c: Config) -> Decoder:
    """Llama with attention or MLP of single layers narrowed, replaced by one linear, or gone."""
    h, heads = c.positive("hidden_size"), c.positive("num_attention_heads")
    blocks = c.sequence("block_configs") or ()
    plans = []
    for i, raw in enumerate(blocks):
        if not isinstance(raw, dict):
            raise FormatError(f"config key {c.path}block_configs[{i}] is not a table")
        block = Config(raw, f"{c.path}block_configs[{i}].")
        attention, ffn = block.sub("attention"), block.sub("ffn")
        mixers: tuple[Mixer, ...] = ()
        ffns: tuple[Ffn, ...] = ()
        extra: list[tuple[str, int, int]] = []
        norms = 0
        if attention.flag("replace_with_linear"):
            extra.append(("attn_linear", h, h))
            norms += h
        elif not attention.flag("no_op"):
            kv_heads = heads // attention.positive("n_heads_in_group")
            mixers = (Attention(heads=heads, kv_heads=kv_heads, head_dim=h // heads),)
            norms += h
        if ffn.flag("replace_with_linear"):
            extra.append(("ffn_linear", h, h))
            norms += h
        elif not ffn.flag("no_op"):
            ffns = (DenseFfn(intermediate=_width(ffn.data.get("ffn_mult"), h, ffn.path)),)
            norms += h
        plans.append(LayerPlan(mixers, ffns, norms, tuple(extra)))
    return simple(c, plans)


def _width(multiplier: object, hidden: int, path: str) -> int:
    """Width of a pruned MLP: two thirds of multiplier × hidden, up to a multiple of 256."""
    if not isinstance(multiplier, int | float) or multiplier <= 0:
        raise FormatError(f"config key {path}ffn_mult is {multiplier!r}, not a positive number")
    width = int(2 * multiplier * hidden / 3)
    return -(-width // 256) * 256


READERS: dict[str, Reader] = {
    "mimo_v2_flash": mimo_v2_flash,
    "nemotron-nas": nemotron_nas,
}
