"""GGUF tensors by HF name and in HF's form: names translated, experts taken apart, rotary pairs and norms undone.

What the converter of llama.cpp changed is changed back here: for the architecture `llama`, rows of q and k are
permuted to interleaved pairs; Gemma's norms carry the +1 already. Knows nothing of the forward pass.
"""

from __future__ import annotations

import re

import numpy as np

from planner.engine.config import ModelConfig
from planner.engine.layout import expert_names, moe_prefix, shared_name
from planner.engine.rope import halves_from_pairs
from planner.errors import FormatError
from planner.formats.arrays import Floats
from planner.formats.gguf import GgufHeader
from planner.formats.quantized import dequantize
from planner.formats.reader import RangeReader, read_exactly

_PLAIN = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_BUFFERS = {"rope_freqs.weight"}


class GgufSource:
    """A GGUF file as a `weights.Source`."""

    def __init__(self, reader: RangeReader, header: GgufHeader, config: ModelConfig) -> None:
        self._reader, self._header, self._config = reader, header, config
        self._interleaved = header.text("general.architecture") == "llama"
        self._at: dict[str, tuple[str, int | None]] = {}
        for name in header.tensors.keys() - _BUFFERS:
            for ours, part in self._translated(name):
                self._at[ours] = (name, part)

    def names(self) -> set[str]:
        return set(self._at)

    def read(self, name: str) -> Floats:
        theirs, part = self._at[name]
        value = self.tensor(theirs)
        if part is not None:
            if self._config.moe is None or len(value) != self._config.moe.experts:
                raise FormatError(f"GGUF: {theirs} holds {len(value)} experts, not the number in the metadata")
            value = value[part]
        if self._interleaved and re.search(r"self_attn\.[qk]_proj\.", name):
            value = self._halves(value)
        if self._config.norm_offset and name.endswith("norm.weight"):
            value = value - np.float32(self._config.norm_offset)
        if name.endswith("shared_expert_gate.weight"):
            value = value.reshape(1, -1)
        return value

    def tensor(self, name: str) -> Floats:
        """One tensor under its GGUF name, as float32."""
        info = self._header.tensors[name]
        raw = read_exactly(self._reader, info.offset, info.n_bytes, name)
        return dequantize(raw, info.type).reshape(info.shape)

    def _halves(self, value: Floats) -> Floats:
        dim = self._config.head_dim
        if value.shape[0] % dim:
            raise FormatError(f"GGUF: {value.shape[0]} rows of q or k are not heads of {dim}")
        heads = value.reshape(-1, dim, *value.shape[1:])
        return heads[:, halves_from_pairs(dim)].reshape(value.shape)

    def _translated(self, name: str) -> list[tuple[str, int | None]]:
        """HF names of a GGUF tensor, with the index of each expert; its own name when nobody knows it."""
        if name in _TOP:
            return [(_TOP[name], None)]
        match = re.fullmatch(r"blk\.(\d+)\.([a-z_]+)\.(weight|bias)", name)
        if match is None:
            return [(name, None)]
        prefix, stem, kind = f"model.layers.{match[1]}.", match[2], match[3]
        if stem in _PLAIN:
            return [(f"{prefix}{_PLAIN[stem]}.{kind}", None)]
        norms = {"ffn_norm": "post_attention_layernorm"}
        if self._config.sandwich_norms:
            norms = {
                "ffn_norm": "pre_feedforward_layernorm",
                "post_attention_norm": "post_attention_layernorm",
                "post_ffw_norm": "post_feedforward_layernorm",
            }
        if stem in norms:
            return [(f"{prefix}{norms[stem]}.{kind}", None)]
        return self._expert(prefix, stem, kind) or [(name, None)]

    def _expert(self, prefix: str, stem: str, kind: str) -> list[tuple[str, int | None]]:
        moe = self._config.moe
        if moe is None:
            return []
        block = moe_prefix(prefix, moe)
        match = re.fullmatch(r"ffn_(gate|up|down)_(exps|shexp)", stem)
        if match and match[2] == "exps":
            theirs = expert_names(moe)[f"{match[1]}_proj"]
            return [(f"{block}experts.{e}.{theirs}.{kind}", e) for e in range(moe.experts)]
        if match:
            return [(f"{block}{shared_name(moe)}{match[1]}_proj.{kind}", None)]
        routers = {"ffn_gate_inp": "gate", "ffn_gate_inp_shexp": "shared_expert_gate"}
        return [(f"{block}{routers[stem]}.{kind}", None)] if stem in routers else []
