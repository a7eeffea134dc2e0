"""A model as memory and time see it: layers of mixers and feed-forwards, normalised.

Produced from a Hugging Face `config.json` (or GGUF metadata) by `sources/`; every count, byte and
FLOP downstream is computed from these shapes alone. Knows nothing of devices or engines.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from planner.spec.base import Provenance, Spec

# --- mixers: what a token reads from other tokens ------------------------------------------------


class Attention(Spec):
    """Softmax attention with grouped KV heads. `window_tokens` limits what a layer keeps."""

    kind: Literal["attention"] = "attention"
    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int | None = None
    window_tokens: int | None = None
    chunked: bool = False
    """Window counts from a chunk's start (Llama 4) instead of sliding."""
    qkv_bias: bool = False
    o_bias: bool = False
    qk_norm: Literal["none", "head", "full"] = "none"
    gated_query: bool = False
    """Query projection is twice as wide: the second half gates the output (Qwen3-Next)."""
    sinks: bool = False
    shares_kv: bool = False
    """Reuses an earlier layer's KV and stores none; its own K and V projections are in the checkpoint,
    and engines with a fused QKV load them (Gemma 3n, 4)."""
    k_eq_v: bool = False
    """V is the K projection: no V weights (Gemma 4)."""
    cross: bool = False
    """Attends to image tokens, which are cached instead of text (Llama 3.2 Vision)."""
    index_head_dim: int = 0
    """Width of the index key that is cached beside K and V to choose blocks (MiniMax-M3)."""
    extra_parameters: int = 0


class Mla(Spec):
    """Multi-head latent attention (DeepSeek V2 and later). The cache holds one latent per token."""

    kind: Literal["mla"] = "mla"
    heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    indexer_heads: int = 0
    indexer_head_dim: int = 0
    window_tokens: int | None = None
    """Latents of single tokens are kept only this long (DeepSeek V4)."""
    compress_every: int | None = None
    """Beyond the window one latent stands for so many tokens; None: nothing does."""
    output_groups: int = 0
    """The output projection is a low-rank pair, the first of it in so many groups; there is no second projection of
    the latent, which serves as key and value (DeepSeek V4)."""
    output_rank: int = 0
    """Rank of each group."""
    bias: bool = False
    extra_parameters: int = 0


class GatedDeltaNet(Spec):
    """Linear attention with a recurrent state (Qwen3-Next, Qwen3.5)."""

    kind: Literal["gated_deltanet"] = "gated_deltanet"
    k_heads: int
    v_heads: int
    k_head_dim: int
    v_head_dim: int
    conv_kernel: int
    state_dtype: Literal["fp32", "bf16"] = "fp32"
    fixed_decay: bool = False
    """Decay by head alone: no convolution, no decay gates, a norm over all heads (MiniMax's lightning attention)."""


class Mamba2(Spec):
    """State-space layer with scalar decay per head."""

    kind: Literal["mamba2"] = "mamba2"
    d_inner: int
    heads: int
    head_dim: int
    state_dim: int
    groups: int
    conv_kernel: int
    conv_bias: bool = True
    proj_bias: bool = False
    norm: bool = True
    state_dtype: Literal["fp32", "bf16"] = "fp32"


class Mamba1(Spec):
    """State-space layer with per-channel decay (Jamba)."""

    kind: Literal["mamba1"] = "mamba1"
    d_inner: int
    state_dim: int
    dt_rank: int
    conv_kernel: int
    conv_bias: bool = True
    proj_bias: bool = False
    inner_norms: bool = False


class ShortConv(Spec):
    """Gated short convolution (LFM2)."""

    kind: Literal["short_conv"] = "short_conv"
    dim: int
    kernel: int
    bias: bool = False


Mixer = Annotated[Attention | Mla | GatedDeltaNet | Mamba2 | Mamba1 | ShortConv, Field(discriminator="kind")]

# --- feed-forwards -------------------------------------------------------------------------------


class DenseFfn(Spec):
    """`gated` has gate, up and down; otherwise up and down."""

    kind: Literal["dense"] = "dense"
    intermediate: int
    gated: bool = True
    bias: bool = False


class MoeFfn(Spec):
    """Routed experts, of which `experts_per_token` run, plus shared ones that always run.

    `shared_intermediate` is the total width of the shared experts (0: none).
    """

    kind: Literal["moe"] = "moe"
    experts: int
    experts_per_token: int
    intermediate: int
    gated: bool = True
    expert_bias: bool = False
    router_bias: bool = False
    """A bias added by the router's linear or to its scores: `experts` parameters."""
    shared_intermediate: int = 0
    shared_gate: bool = False
    input_dim: int | None = None
    """Width the experts see when it is not the hidden size (latent MoE)."""
    dense_intermediate: int = 0
    """A dense gated MLP that runs beside the experts (Gemma 4 MoE)."""
    extra_parameters: int = 0


Ffn = Annotated[DenseFfn | MoeFfn, Field(discriminator="kind")]


class LayerGroup(Spec):
    """Identical layers, by index. `norm_parameters` counts norms and scalars of one layer."""

    layers: tuple[int, ...]
    mixers: tuple[Mixer, ...] = ()
    ffns: tuple[Ffn, ...] = ()
    norm_parameters: int
    extra_linears: tuple[tuple[str, int, int], ...] = ()
    """Further matrices of one layer: (name, out, in), e.g. per-layer-input gates."""


class Block(Spec):
    """Something outside the decoder layers, counted whole.

    `role` says how engines treat it: a `vision` or `audio` tower stays in its own dtype, an `mtp`
    block is on disk but is loaded only for speculative decoding, a `buffer` is stored but is no
    parameter of the class, `per_layer_embedding` may stay off the device.
    """

    role: Literal["vision", "audio", "projector", "mtp", "per_layer_embedding", "position", "buffer", "other"]
    parameters: int
    tokens_per_image: int | None = None
    split_parameters: int = 0
    """Those of them that tensor parallelism divides: the matrices of a tower's layers."""


class RotaryTable(Spec):
    """Cosines and sines of rotary embeddings as engines keep them: `positions` rows of `width` numbers.

    `first_layer` is the first to use it; `scaled`: positions stretched by linear scaling, each with its row.
    """

    positions: int
    width: int
    first_layer: int = 0
    scaled: bool = False


class RopeScaling(Spec):
    """How rotary positions are stretched beyond the length of the training; names and defaults as in config.json."""

    kind: str
    """linear, llama3, yarn, dynamic, longrope …"""
    factor: float = 1.0
    original_context_length: int | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    attention_factor: float | None = None


class StoredBytes(Spec):
    """Bytes of tensor data that a checkpoint's files hold, read from their headers, by place.

    `layers` has one figure per decoder layer; `embedding` is the token embedding, `output` the head and
    what else stands after the last layer, `towers` vision and audio, `other` everything else (prediction
    blocks, buffers). `elements` counts stored numbers (a packed word is one), `dtypes` bytes by type.
    """

    layers: tuple[int, ...]
    embedding: int = 0
    output: int = 0
    towers: int = 0
    other: int = 0
    n_tensors: int
    elements: int
    dtypes: tuple[tuple[str, int], ...] = ()

    @property
    def total(self) -> int:
        """Bytes of all tensors, without headers and padding."""
        return sum(self.layers) + self.embedding + self.output + self.towers + self.other


class Checkpoint(Spec):
    """Published weights in one quantization: a Hub repository, a GGUF file or an Ollama tag."""

    quantization: str
    repo: str | None = None
    file: str | None = None
    ollama_tag: str | None = None
    revision: str | None = None
    size_bytes: int | None = None
    gated: bool | None = None
    group_size: int | None = None
    unquantized: tuple[str, ...] = ()
    """Tensor roles or names kept in the base dtype, where the quantization config says so."""
    stored: StoredBytes | None = None
    """Exact bytes by place, where somebody read the files' headers."""
    provenance: Provenance


class ModelSpec(Spec):
    """One exact checkpoint.

    `parameters` is the published total where one exists; `parameters_note` says why the computed
    count differs when it does. `dtype` and `quantization` are of the weights under `id` itself.
    """

    id: str
    adapter: str | None = None
    """Repository or folder of the LoRA adapter that was named instead of this, its base model."""
    adapter_rank: int | None = None
    family: str
    architecture: str
    model_type: str
    aliases: tuple[str, ...] = ()
    hidden_size: int
    vocab_size: int
    tie_word_embeddings: bool
    context_length: int
    layers: tuple[LayerGroup, ...]
    blocks: tuple[Block, ...] = ()
    rotary: tuple[RotaryTable, ...] = ()
    """Where it is not one table of `context_length` positions for each head width."""
    rope_scaling: RopeScaling | None = None
    """That of the layers that attend to everything, where they differ."""
    final_norm_parameters: int
    embedding_dim: int | None = None
    lm_head_bias: bool = False
    dtype: Literal["fp32", "fp16", "bf16"] = "bf16"
    quantization: str = "bf16"
    quantization_group_size: int | None = None
    unquantized: tuple[str, ...] = ()
    """Modules that the checkpoint's own quantization leaves in `dtype`."""
    fp8_roles: tuple[str, ...] = ()
    """Tensor roles that a mixed 4-bit checkpoint stores in FP8 instead (written like `unquantized`)."""
    also_quantized: tuple[str, ...] = ()
    """Roles outside the linears that the checkpoint quantizes all the same, e.g. `output`."""
    parameters: int | None = None
    parameters_note: str = ""
    modality: Literal["text", "vision", "audio", "embedding"] = "text"
    instruct: bool = True
    license: str | None = None
    gated: bool | None = None
    revision: str | None = None
    chat_stop: tuple[str, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    assumptions: tuple[str, ...] = ()
    provenance: Provenance

    @property
    def n_layers(self) -> int:
        """Decoder layers in all."""
        return sum(len(group.layers) for group in self.layers)

    @property
    def is_moe(self) -> bool:
        """True when any layer routes between experts."""
        return any(ffn.kind == "moe" for group in self.layers for ffn in group.ffns)
