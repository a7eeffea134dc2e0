"""The vocabulary of bytes, as checkpoints spell it for other engines: tokenizer.json, and the metadata of a GGUF file.

Token n is byte n under GPT-2's printable character, 256 begins a text, 257 ends it, nothing is merged. A checkpoint
that brings exactly this is read by `ByteTokenizer`, without the `tokenizers` package. Knows nothing of weights.
"""

from __future__ import annotations

from typing import Any

from planner.engine.tokenizer import ByteTokenizer, byte_characters

BEGIN, END = "<s>", "</s>"
NORMAL, CONTROL, UNUSED = 1, 3, 5
"""Kinds of tokens in GGUF: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md."""


def byte_tokens() -> list[str]:
    """The 258 tokens in order."""
    characters = byte_characters()
    return [*(characters[b] for b in range(256)), BEGIN, END]


def byte_document() -> dict[str, Any]:
    """What tokenizer.json says."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    begin = {"SpecialToken": {"id": BEGIN, "type_id": 0}}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": t, **plain} for i, t in enumerate(byte_tokens()) if i >= 256],
        "normalizer": None, "pre_tokenizer": level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [begin, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {BEGIN: {"id": BEGIN, "ids": [ByteTokenizer.BOS], "tokens": [BEGIN]}},
        },
        "decoder": level,
        "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(byte_tokens())}, "merges": []},
    }  # fmt: skip


def byte_settings(max_tokens: int) -> dict[str, Any]:
    """What tokenizer_config.json says of a model with a context of `max_tokens`."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BEGIN, "eos_token": END,
        "clean_up_tokenization_spaces": False, "model_max_length": max_tokens,
    }  # fmt: skip


def byte_metadata(vocab_size: int) -> dict[str, Any]:
    """The same in a GGUF file whose embedding has `vocab_size` rows; llama.cpp wants a token for each."""
    unused = [f"<unused{i}>" for i in range(vocab_size - len(byte_tokens()))]
    return {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.merges": [],
        "tokenizer.ggml.tokens": [*byte_tokens(), *unused],
        "tokenizer.ggml.token_type": [NORMAL] * 256 + [CONTROL] * 2 + [UNUSED] * len(unused),
        "tokenizer.ggml.bos_token_id": ByteTokenizer.BOS, "tokenizer.ggml.eos_token_id": ByteTokenizer.EOS,
        "tokenizer.ggml.add_bos_token": True,
    }  # fmt: skip
