"""What a model is, as far as running it needs: one dataclass for every family, built by `hf_config` or `gguf_config`.

Knows dimensions and switches; knows nothing of files, tensors' names or the advisor.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.engine.rope import Rope
from planner.errors import UsageError


@dataclass(frozen=True, slots=True)
class Moe:
    """Routed experts of the layers that have them. `naming` is the checkpoint's style: mixtral, qwen or deepseek."""

    experts: int
    per_token: int
    intermediate_size: int
    naming: str
    normalize: bool = True
    scale: float = 1.0
    shared_intermediate_size: int = 0
    shared_gate: bool = False
    groups: int = 0
    groups_per_token: int = 0
    sigmoid: bool = False
    """Scores by sigmoid, experts chosen by score plus a learned correction, groups by their best two (DeepSeek V3)."""


@dataclass(frozen=True, slots=True)
class Mla:
    """DeepSeek's latent attention: what is cached per token is `kv_rank` + `rope_dim` numbers."""

    kv_rank: int
    q_rank: int | None
    nope_dim: int
    rope_dim: int
    value_dim: int
    norm_eps: float = 1e-6


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer: its attention window in tokens (None: all), its positions, and whether it routes."""

    rope: Rope
    window: int | None = None
    routed: bool = False


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A decoder-only transformer. Sizes in elements; `attention_scale` multiplies q·k."""

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    layers: tuple[Layer, ...]
    max_position: int
    norm_eps: float
    attention_scale: float
    activation: str = "silu"
    tied: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    sandwich_norms: bool = False
    norm_offset: float = 0.0
    embedding_scale: float = 1.0
    attention_softcap: float | None = None
    final_softcap: float | None = None
    moe: Moe | None = None
    mla: Mla | None = None
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "heads", "kv_heads", "head_dim", "max_position"):
            if not 0 < getattr(self, name) < 1 << 31:
                raise UsageError(f"model config: {name} = {getattr(self, name)} is impossible")
        if not 0 < len(self.layers) <= 4096:
            raise UsageError(f"model config: {len(self.layers)} layers are impossible")
        if self.moe and not 0 < self.moe.per_token <= self.moe.experts <= 4096:
            raise UsageError(f"model config: {self.moe.per_token} of {self.moe.experts} experts are impossible")
        if self.moe and self.moe.groups and (self.moe.experts % self.moe.groups or not self.moe.groups_per_token):
            raise UsageError(f"model config: {self.moe.experts} experts in {self.moe.groups} groups are impossible")
        if self.moe and len(self.layers) * self.moe.experts > 1 << 17:
            raise UsageError(f"model config: {len(self.layers)} layers of {self.moe.experts} experts are impossible")
        if self.mla and min(self.mla.kv_rank, self.mla.nope_dim, self.mla.rope_dim, self.mla.value_dim) < 1:
            raise UsageError("model config: latent attention with a dimension of 0 is impossible")
        if self.heads % self.kv_heads:
            raise UsageError(f"model config: {self.heads} heads do not share {self.kv_heads} KV heads evenly")
        if any(layer.rope.dim % 2 for layer in self.layers):
            raise UsageError("model config: an odd rotary dimension is impossible")

    @property
    def kv_floats_per_token(self) -> int:
        """Numbers cached per token and layer: K and V of every KV head, or MLA's latent and rotary key."""
        if self.mla:
            return self.mla.kv_rank + self.mla.rope_dim
        return 2 * self.kv_heads * self.head_dim
