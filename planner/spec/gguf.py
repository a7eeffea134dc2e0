"""GGUF file types: what llama.cpp's quantizer writes for each, as rules that are data.

Which tensor gets which type is decided in `estimate.gguf`; the rules live in catalog/quantization.yaml.
"""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from planner.spec.base import Spec

Condition = Literal[
    "more_bits", "first_eighth", "first_sixteenth", "middle", "first_2", "first_4", "gqa_4", "gqa_4_or_moe_4",
    "experts_8", "not_experts_8", "no_imatrix", "imatrix", "experts", "llama_70b",
]  # fmt: skip
MixTensor = Literal["attn_v", "attn_qkv", "attn_k", "attn_q", "attn_output", "ffn_down", "ffn_gate", "ffn_up"]


class MixRule(Spec):
    """`tensor` gets `type` when all of `when` hold (and, in `adjust`, the type so far is in `from`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    tensor: MixTensor
    when: tuple[Condition, ...] = ()
    from_types: tuple[str, ...] = Field(default=(), alias="from")
    type: str


class GgufMix(Spec):
    """One file type: the first rule of a tensor whose conditions hold decides, else `base`.

    `output` types the head and a tied embedding, `token_embd` an untied one; absent means `base`.
    """

    file_type: str
    number: int
    base: str
    output: str | None = None
    token_embd: str | None = None
    adjusts: Literal["k"] | None = None
    rules: tuple[MixRule, ...] = ()


class GgufMixRules(Spec):
    """What holds for every file type: adjustments, and what to do where a row does not divide."""

    adjust: tuple[MixRule, ...] = ()
    fallback: dict[str, str]
    fallback_last: str
    output_when_row_not_divisible: str
    unquantized: tuple[str, ...] = ()
    tensor_f32: tuple[str, ...] = ()
    note: str = ""
