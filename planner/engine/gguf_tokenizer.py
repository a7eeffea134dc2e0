"""The tokenizer inside a GGUF file: byte-level BPE ("gpt2") and SentencePiece BPE ("llama"), else bytes.

Builds the document that the `tokenizers` package reads. Splitting patterns are those of the models' own
tokenizer.json files, by llama.cpp's name for them; an unknown name is refused.
"""

from __future__ import annotations

import json
from typing import Any

from planner.engine.byte_vocabulary import byte_metadata
from planner.engine.tokenizer import ByteTokenizer, HubTokenizer, Tokenizer
from planner.errors import FormatError, UnknownNameError, UsageError
from planner.formats.gguf import GgufHeader

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS: dict[str, str | None] = {
    "llama-bpe": _WORDS.replace("DIGITS", r"\p{N}{1,3}"),
    "qwen2": _WORDS.replace("DIGITS", r"\p{N}"),
    "smollm": None, "gpt-2": None, "default": None,
}  # fmt: skip
CONTROL, USER_DEFINED = 3, 4


def tokenizer_from_gguf(header: GgufHeader, vocab_size: int) -> Tokenizer:
    """Raises UsageError for a kind that is not implemented, FormatError for lists that do not fit."""
    kind = header.text("tokenizer.ggml.model")
    if kind in (None, "none", "no_vocab") or _is_of_bytes(header, vocab_size):
        return ByteTokenizer(vocab_size)
    tokens = _texts(header, "tokenizer.ggml.tokens")
    if len(tokens) > vocab_size:
        raise FormatError(f"GGUF: {len(tokens)} tokens, but the embedding has {vocab_size} rows")
    if kind == "gpt2":
        document = _byte_level(header, tokens)
    elif kind == "llama":
        document = _sentencepiece(header, tokens)
    else:
        raise UsageError(f"GGUF tokenizer {kind!r} is not implemented; implemented: gpt2, llama")
    document |= {
        "version": "1.0",
        "added_tokens": _added(header, tokens),
        "post_processor": _begin(header, tokens, kind),
    }
    return HubTokenizer.from_json(json.dumps(document), "GGUF tokenizer")


def _is_of_bytes(header: GgufHeader, vocab_size: int) -> bool:
    return all(header.metadata.get(key) == value for key, value in byte_metadata(vocab_size).items())


def _byte_level(header: GgufHeader, tokens: list[str]) -> dict[str, Any]:
    name = header.text("tokenizer.ggml.pre") or "default"
    if name not in PATTERNS:
        raise UnknownNameError("GGUF pre-tokenizer", name, PATTERNS)
    merges = [m.split(" ", 1) for m in _texts(header, "tokenizer.ggml.merges")]
    steps: list[dict[str, Any]] = []
    pattern = PATTERNS[name]
    if pattern:
        steps.append({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False})
    elif name == "smollm":
        steps.append({"type": "Digits", "individual_digits": True})
    steps.append({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": pattern is None})
    return {
        "model": {
            "type": "BPE",
            "vocab": {t: i for i, t in enumerate(tokens)},
            "merges": merges,
            "ignore_merges": True,
        },
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    }


def _sentencepiece(header: GgufHeader, tokens: list[str]) -> dict[str, Any]:
    """Merges are all splits of a token into two others, best score first."""
    scores = header.metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise FormatError("GGUF: tokenizer.ggml.scores must give one number per token")
    vocabulary = {t: i for i, t in enumerate(tokens)}
    merges = [
        (-float(scores[i]), vocabulary[t[:k]], vocabulary[t[k:]])  # type: ignore[arg-type]
        for t, i in vocabulary.items()
        for k in range(1, len(t))
        if t[:k] in vocabulary and t[k:] in vocabulary
    ]
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    prefix = (
        [{"type": "Prepend", "prepend": "\u2581"}]
        if header.metadata.get("tokenizer.ggml.add_space_prefix", True)
        else []
    )
    return {
        "model": {
            "type": "BPE",
            "vocab": vocabulary,
            "merges": [[tokens[a], tokens[b]] for _, a, b in sorted(merges)],
            "byte_fallback": True,
            "fuse_unk": True,
            "unk_token": tokens[0],
        },
        "normalizer": {"type": "Sequence", "normalizers": [*prefix, spaces]},
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
    }


def _added(header: GgufHeader, tokens: list[str]) -> list[dict[str, Any]]:
    kinds = header.metadata.get("tokenizer.ggml.token_type")
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        return []
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": i, "content": t, "special": kinds[i] == CONTROL, **flags}
        for i, t in enumerate(tokens)
        if kinds[i] in (CONTROL, USER_DEFINED)
    ]


def _begin(header: GgufHeader, tokens: list[str], kind: str) -> dict[str, Any] | None:
    bos = header.metadata.get("tokenizer.ggml.bos_token_id")
    if not header.metadata.get("tokenizer.ggml.add_bos_token", kind == "llama") or not isinstance(bos, int):
        return None
    if not 0 <= bos < len(tokens):
        raise FormatError(f"GGUF: bos_token_id {bos} is not a token")
    text = tokens[bos]
    return {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": text, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {text: {"id": text, "ids": [bos], "tokens": [text]}},
    }


def _texts(header: GgufHeader, key: str) -> list[str]:
    value = header.metadata.get(key)
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise FormatError(f"GGUF: {key} must be a list of strings")
    return [v for v in value if isinstance(v, str)]
