"""Parameters of vision and audio towers, from their configs. One function per kind of tower.

Knows nothing of the decoder behind a tower. Source: the towers' classes in transformers 5.23.0.
"""

from __future__ import annotations

from planner.sources.hf.common import Config


def siglip(c: Config) -> int:
    """SigLIP without pooling head (Gemma 3)."""
    h, inner, p = c.positive("hidden_size"), c.positive("intermediate_size"), c.positive("patch_size")
    positions = (c.positive("image_size") // p) ** 2
    layer = 4 * (h * h + h) + 2 * h * inner + inner + h + 4 * h
    return 3 * p * p * h + h + positions * h + c.positive("num_hidden_layers") * layer + 2 * h


def clip(c: Config) -> int:
    """CLIP ViT with class embedding (LLaVA 1.5)."""
    h, inner, p = c.positive("hidden_size"), c.positive("intermediate_size"), c.positive("patch_size")
    positions = (c.positive("image_size") // p) ** 2 + 1
    layer = 4 * (h * h + h) + 2 * h * inner + inner + h + 4 * h
    return 3 * p * p * h + h + positions * h + 4 * h + c.positive("num_hidden_layers") * layer


def split_by_tensor(c: Config, *, merger: bool = False, gated: bool = False) -> int:
    """Parameters of a ViT's layers (and of Qwen's `merger`s) that vLLM divides by tensor parallelism.

    Matrices and the biases of column-parallel ones; patches, positions and norms are on every device.
    Source: vLLM 0.26 models/siglip.py, clip.py, qwen2_vl.py, qwen2_5_vl.py, qwen3_vl.py, pixtral.py.
    """
    if "embed_dim" in c:
        h, out = c.positive("embed_dim"), c.positive("hidden_size")
        inner = c.positive("mlp_ratio", default=4) * h
    else:
        h, inner = c.positive("hidden_size"), c.positive("intermediate_size")
        out = c.positive("out_hidden_size", default=h)
    columns = 3 * h + (2 if gated else 1) * inner
    layers = c.positive("num_hidden_layers", "depth") * (4 * h * h + (3 if gated else 2) * h * inner + columns)
    if not merger:
        return layers
    merged = h * c.positive("spatial_merge_size", default=2) ** 2
    count = 1 + len(c.sequence("deepstack_visual_indexes") or ())
    return layers + count * (merged * merged + merged + merged * out)


def _qwen_patch(c: Config, width: int) -> int:
    p, t = c.positive("patch_size"), c.positive("temporal_patch_size", default=2)
    return c.positive("in_channels", "in_chans", default=3) * t * p * p * width


def qwen2_vl(c: Config) -> int:
    """ViT of Qwen2-VL: `embed_dim` wide, merger to the decoder's `hidden_size`."""
    e, out, ratio = c.positive("embed_dim"), c.positive("hidden_size"), c.positive("mlp_ratio", default=4)
    merged = e * c.positive("spatial_merge_size", default=2) ** 2
    inner = ratio * e
    block = 4 * e + 3 * e * e + 3 * e + e * e + e + 2 * e * inner + inner + e
    merger = 2 * e + merged * merged + merged + merged * out + out
    return _qwen_patch(c, e) + c.positive("depth") * block + merger


def qwen2_5_vl(c: Config) -> int:
    """As Qwen2-VL with RMS norms and a gated MLP."""
    e, inner, out = c.positive("hidden_size"), c.positive("intermediate_size"), c.positive("out_hidden_size")
    merged = e * c.positive("spatial_merge_size", default=2) ** 2
    block = 2 * e + 3 * e * e + 3 * e + e * e + e + 3 * e * inner + 2 * inner + e
    merger = e + merged * merged + merged + merged * out + out
    return _qwen_patch(c, e) + c.positive("depth") * block + merger


def qwen3_vl(c: Config) -> int:
    """Learned positions, and one merger more for each deep-stack level."""
    e, inner, out = c.positive("hidden_size"), c.positive("intermediate_size"), c.positive("out_hidden_size")
    merged = e * c.positive("spatial_merge_size", default=2) ** 2
    block = 4 * e + 3 * e * e + 3 * e + e * e + e + 2 * e * inner + inner + e
    fcs = merged * merged + merged + merged * out + out
    levels = len(c.sequence("deepstack_visual_indexes") or ())
    positions = c.positive("num_position_embeddings") * e
    return _qwen_patch(c, e) + e + positions + c.positive("depth") * block + 2 * e + fcs + levels * (2 * merged + fcs)


def pixtral(c: Config) -> int:
    h, inner, p = c.positive("hidden_size"), c.positive("intermediate_size"), c.positive("patch_size")
    return 3 * p * p * h + h + c.positive("num_hidden_layers") * (4 * h * h + 3 * h * inner + 2 * h)


def llama4(c: Config) -> int:
    """ViT with a pixel-shuffle adapter."""
    h, inner, p = c.positive("hidden_size"), c.positive("intermediate_size"), c.positive("patch_size")
    positions = (c.positive("image_size") // p) ** 2 + 1
    layer = 4 * (h * h + h) + 2 * h * inner + inner + h + 4 * h
    mid, out = c.positive("projector_input_dim"), c.positive("projector_output_dim")
    return 3 * p * p * h + h + positions * h + 4 * h + c.positive("num_hidden_layers") * layer + inner * mid + mid * out


def mllama(c: Config) -> int:
    """Tiled ViT with global layers (Llama 3.2 Vision)."""
    h, inner, p = c.positive("hidden_size"), c.positive("intermediate_size"), c.positive("patch_size")
    patches = (c.positive("image_size") // p) ** 2 + 1
    tiles = c.positive("max_num_tiles", default=4)
    ratios = len(c.sequence("supported_aspect_ratios") or [None] * 8) + 1
    layer = 4 * h * h + 2 * h * inner + inner + h + 4 * h
    n_global = c.positive("num_global_layers", default=8)
    layers = (c.positive("num_hidden_layers") + n_global) * layer + 2 * n_global
    gated_positions = 1 + patches * h + ratios * tiles * patches * h
    tile_positions = 2 * (1 + ratios * tiles * h)
    return h + 3 * p * p * h + gated_positions + tile_positions + 4 * h + layers


def gemma4_vision(c: Config) -> int:
    """Gated ViT with two-axis positions; `standardize` adds two stored vectors."""
    h, inner = c.positive("hidden_size"), c.positive("intermediate_size")
    width = c.positive("num_attention_heads") * c.positive("head_dim")
    kv = c.positive("num_key_value_heads") * c.positive("head_dim")
    layer = 2 * h * width + 2 * h * kv + 2 * c.positive("head_dim") + 3 * h * inner + 4 * h
    standard = 2 * h if c.flag("standardize") else 0
    patch = 3 * c.positive("patch_size") ** 2 * h
    n = c.positive("num_hidden_layers")
    return 2 * c.positive("position_embedding_size") * h + patch + n * layer + standard


def gemma4_audio(c: Config) -> int:
    """Conformer of Gemma 4: two half-step MLPs, attention and a light convolution per layer."""
    h, n, k = c.positive("hidden_size"), c.positive("num_hidden_layers"), c.positive("conv_kernel_size", default=5)
    channels = [x for x in c.sequence("subsampling_conv_channels") or (128, 32) if isinstance(x, int)]
    ffw = 2 * h * 4 * h + 2 * h
    attention = 5 * h * h + h // c.positive("num_attention_heads", default=8)
    conv = 2 * h * h + h * h + k * h + 2 * h
    first, second = channels[0], channels[1]
    front = 9 * first + first + 9 * first * second + second + h * 1024
    out = c.positive("output_proj_dims")
    return front + n * (2 * ffw + attention + conv + 3 * h) + h * out + out


def gemma3n_audio(c: Config) -> int:
    """Universal speech encoder of Gemma 3n."""
    h, n = c.positive("hidden_size"), c.positive("conf_num_hidden_layers")
    k = c.positive("conf_conv_kernel_size", default=5)
    ffw = 2 * h * 4 * h + 2 * h
    attention = 5 * h * h + h // c.positive("conf_num_attention_heads", default=8) + 2 * h
    conv = 2 * h * h + h * h + k * h + 2 * h
    channels = [x for x in c.sequence("sscp_conv_channel_size") or (128, 32) if isinstance(x, int)]
    first, second = channels[0], channels[1]
    bins = c.positive("input_feat_size", default=128) // 4
    front = 9 * first + first + 9 * first * second + second + h * bins * second
    return front + n * (2 * ffw + attention + conv + h)


def gemma3n_embedder(c: Config, text_hidden: int) -> int:
    """Embedding of a modality's own tokens, two norms and a projection."""
    h = c.positive("hidden_size")
    return c.positive("vocab_size") * h + 2 * h + h * text_hidden


def glm4v(c: Config) -> int:
    """GLM-4.5V: gated ViT with a gated merger."""
    h, out, p = c.positive("hidden_size"), c.positive("out_hidden_size"), c.positive("patch_size")
    positions = (c.positive("image_size") // p) ** 2
    block = 2 * h + 4 * h * h + 3 * h * out
    merge = c.positive("spatial_merge_size", default=2)
    merger = out * out + 2 * out + 3 * out * c.positive("intermediate_size")
    down = merge * merge * h * out + out
    return positions * h + _qwen_patch(c, h) + h + c.positive("depth") * block + merger + 2 * h + down


def moonvit(c: Config, text_hidden: int) -> int:
    """Kimi K2.5's tower with its patch-merging projector."""
    h, inner, p = c.positive("vt_hidden_size"), c.positive("vt_intermediate_size"), c.positive("patch_size")
    positions = c.positive("init_pos_emb_height") * c.positive("init_pos_emb_width") * h
    layer = 4 * h + 4 * (h * h + h) + 2 * h * inner + inner + h
    merged = 4 * h
    projector = 2 * h + merged * merged + merged + merged * text_hidden + text_hidden
    return 3 * p * p * h + h + positions + c.positive("vt_num_hidden_layers") * layer + 2 * h + projector
