"""Models with a vision or audio tower: a text decoder of another file and the tower's parameters.

Towers are counted, not taken apart: engines keep them in the checkpoint's own dtype.
Source: the towers' modelling files in transformers 5.23.0.
"""

from __future__ import annotations

from dataclasses import replace

from planner.sources.hf import deepseek, dense, gemma, hybrid, moe
from planner.sources.hf.common import Config, Decoder, LayerPlan, Reader, gated, gqa, simple
from planner.sources.hf.rotary import MROPE_POSITIONS, tables
from planner.sources.hf.towers import (
    clip,
    gemma3n_audio,
    gemma3n_embedder,
    gemma4_audio,
    gemma4_vision,
    glm4v,
    llama4,
    mllama,
    moonvit,
    pixtral,
    qwen2_5_vl,
    qwen2_vl,
    qwen3_vl,
    siglip,
    split_by_tensor,
)
from planner.spec.model import Block


def _text(c: Config) -> Config:
    """The text decoder's table, with the outer table's tie flag where it has none."""
    text = c.sub("text_config")
    outer = {k: c.data[k] for k in ("tie_word_embeddings",) if c.data.get(k) is not None}
    return text.with_defaults(**outer)


def _vision(parameters: int, tokens_per_image: int | None = None) -> Block:
    return Block(role="vision", parameters=parameters, tokens_per_image=tokens_per_image)


def _split(
    parameters: int, tower: Config, tokens_per_image: int | None = None, *, merger: bool = False, gated: bool = False
) -> Block:
    """A tower whose layers tensor parallelism divides."""
    split = split_by_tensor(tower, merger=merger, gated=gated)
    return Block(role="vision", parameters=parameters, tokens_per_image=tokens_per_image, split_parameters=split)


def _qwen3_tower(c: Config) -> Block:
    tower = c.sub("vision_config")
    return _split(qwen3_vl(tower), tower, merger=True)


def _three_axes(c: Config, text: Decoder, share: float = 1.0) -> Decoder:
    """`text` with the positions of M-RoPE, which rotates `share` of a head unless the config says otherwise."""
    return replace(text, rotary=tables(c, text, times=MROPE_POSITIONS, share=share))


def gemma3(c: Config) -> Decoder:
    text, tower = gemma.gemma3(_text(c)), c.sub("vision_config")
    hidden = tower.positive("hidden_size")
    projector = Block(role="projector", parameters=hidden * text.hidden_size + hidden)
    return text.plus(_split(siglip(tower), tower, c.integer("mm_tokens_per_image", default=256)), projector)


_MOBILENET_V5_300M = 294_126_912
"""Parameters of timm's mobilenetv5_300m_enc , counted on the class."""


def gemma3n(c: Config) -> Decoder:
    text = gemma.gemma3n(_text(c))
    vision, audio = c.sub("vision_config"), c.sub("audio_config")
    blocks = []
    if vision.data:
        blocks.append(_vision(_MOBILENET_V5_300M + gemma3n_embedder(vision, text.hidden_size), 256))
    if audio.data:
        parameters = gemma3n_audio(audio) + gemma3n_embedder(audio, text.hidden_size)
        blocks.append(Block(role="audio", parameters=parameters))
    return text.plus(*blocks)


def gemma4(c: Config) -> Decoder:
    text, vision, audio = gemma.gemma4(_text(c)), c.sub("vision_config"), c.sub("audio_config")
    blocks = []
    if vision.data:
        projector = vision.positive("hidden_size") * text.hidden_size
        blocks.append(_vision(gemma4_vision(vision) + projector, vision.opt_int("default_output_length")))
    if audio.data:
        projector = audio.positive("output_proj_dims") * text.hidden_size
        blocks.append(Block(role="audio", parameters=gemma4_audio(audio) + projector))
    return text.plus(*blocks)


def _qwen_vl_text(c: Config) -> Config:
    """Qwen2-VL configs keep the text keys at the top or in text_config, by version."""
    return _text(c) if c.sub("text_config").data else c


def qwen2_vision(c: Config) -> Decoder:
    tower = c.sub("vision_config")
    return _three_axes(c, dense.qwen2(_qwen_vl_text(c))).plus(_split(qwen2_vl(tower), tower, merger=True))


def qwen2_5_vision(c: Config) -> Decoder:
    tower = c.sub("vision_config")
    return _three_axes(c, dense.qwen2(_qwen_vl_text(c))).plus(_split(qwen2_5_vl(tower), tower, merger=True, gated=True))


def qwen3_vision(c: Config) -> Decoder:
    return _three_axes(c, dense.qwen3(_text(c))).plus(_qwen3_tower(c))


def qwen3_vision_moe(c: Config) -> Decoder:
    return _three_axes(c, moe.qwen3_moe(_text(c))).plus(_qwen3_tower(c))


def qwen3_5(c: Config) -> Decoder:
    return _three_axes(c, hybrid.qwen3_5(_text(c)), 0.25).plus(_qwen3_tower(c))


def qwen3_5_moe(c: Config) -> Decoder:
    return _three_axes(c, hybrid.qwen3_5_moe(_text(c)), 0.25).plus(_qwen3_tower(c))


def mistral3(c: Config) -> Decoder:
    text, tower = dense.mistral(_text(c)), c.sub("vision_config")
    v, h, merge = tower.positive("hidden_size"), text.hidden_size, c.positive("spatial_merge_size", default=2)
    bias = 2 * h if c.flag("multimodal_projector_bias") else 0
    projector = v + merge * merge * v * v + v * h + h * h + bias
    return text.plus(_split(pixtral(tower), tower, gated=True), Block(role="projector", parameters=projector))


def llama4_vision(c: Config) -> Decoder:
    text, tower = moe.llama4(_text(c)), c.sub("vision_config")
    if not tower.data:
        return text
    projector = tower.positive("vision_output_dim") * text.hidden_size
    return text.plus(_split(llama4(tower), tower), Block(role="projector", parameters=projector))


def mllama_text(c: Config) -> Decoder:
    """Llama 3.2 Vision: some layers attend to image tokens only; eight extra embedding rows."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    cross = set(c.sequence("cross_attention_layers") or ())
    plans = []
    for i in range(n):
        if i in cross:
            plans.append(LayerPlan((gqa(c, cross=True, qk_norm="head"),), (gated(c),), 2 * h + 2))
        else:
            plans.append(LayerPlan((gqa(c),), (gated(c),), 2 * h))
    return simple(c, plans).plus(Block(role="other", parameters=8 * h), modality="text")


def mllama_vision(c: Config) -> Decoder:
    text, tower = mllama_text(_text(c)), c.sub("vision_config")
    projector = tower.positive("vision_output_dim") * text.hidden_size + text.hidden_size
    return text.plus(_vision(mllama(tower)), Block(role="projector", parameters=projector))


def glm4v_moe(c: Config) -> Decoder:
    return _three_axes(c, moe.glm4_moe(_text(c)), 0.5).plus(_vision(glm4v(c.sub("vision_config"))))


def llava(c: Config) -> Decoder:
    """A CLIP tower (or Pixtral's) and a two-layer projector before Llama; old configs name the tower only."""
    if c.sub("text_config").data:
        text_table = _text(c).with_defaults(
            hidden_size=4096, num_attention_heads=32, num_hidden_layers=32, intermediate_size=11008
        )
        tower = c.sub("vision_config")
    else:
        text_table, tower = c, Config({})
    text = dense.llama(text_table)
    tower = tower.with_defaults(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, patch_size=14, image_size=336
    )
    v, h = tower.positive("hidden_size"), text.hidden_size
    projector = Block(role="projector", parameters=v * h + h + h * h + h)
    if tower.text("model_type") == "pixtral":  # as many tokens as an image has patches
        return text.plus(_split(pixtral(tower), tower, gated=True), projector)
    side = tower.positive("image_size") // tower.positive("patch_size")
    return text.plus(_split(clip(tower), tower, side * side), projector)


def phi3_v(c: Config) -> Decoder:
    """Phi-3 beside CLIP ViT-L/14 at 336 pixels, whose 2 x 2 patches a two-layer projector takes at once.

    The config names the tower by its Hub id alone. Source: the published total, which this gives exactly, and
    vLLM's models/phi3v.py.
    """
    text = dense.phi3(c)
    tower = Config(
        {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "patch_size": 14, "image_size": 336}
    )
    wide, h = 4 * tower.positive("hidden_size"), text.hidden_size
    projector = Block(role="projector", parameters=wide * h + h + h * h + h + 2 * wide)
    return text.plus(_split(clip(tower), tower, PHI3_V_TOKENS), projector)


PHI3_V_TOKENS = 144
"""Of one 336 x 336 crop: 24 x 24 patches, four at a time."""


def kimi_k25(c: Config) -> Decoder:
    text = deepseek.deepseek_v3(_text(c))
    return text.plus(_vision(moonvit(c.sub("vision_config"), text.hidden_size)))


READERS: dict[str, Reader] = {
    "phi3_v": phi3_v,
    "gemma3": gemma3,
    "gemma3n": gemma3n,
    "gemma4": gemma4,
    "qwen2_vl": qwen2_vision,
    "qwen2_5_vl": qwen2_5_vision,
    "qwen3_vl": qwen3_vision,
    "qwen3_vl_moe": qwen3_vision_moe,
    "qwen3_5": qwen3_5,
    "qwen3_5_moe": qwen3_5_moe,
    "mistral3": mistral3,
    "llama4": llama4_vision,
    "mllama": mllama_vision,
    "glm4v_moe": glm4v_moe,
    "llava": llava,
    "kimi_k25": kimi_k25,
}
