"""Text to tokens and tokens to bytes: a byte tokenizer for models without one, the `tokenizers` package for the rest.

Tokens are turned into bytes one by one, so that streaming never needs to look back. A tokenizer whose tokens have no
bytes of their own (WordPiece) is refused. The `tokenizers` package is optional and imported when a checkpoint needs it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from planner.errors import FormatError, UsageError


class Tokenizer(Protocol):
    """`token_bytes` of a special token is empty; `vocabulary` is padded with empty entries to `size`."""

    def encode(self, text: str, *, special: bool = True) -> list[int]: ...

    def token_bytes(self, token: int) -> bytes: ...

    def vocabulary(self, size: int) -> Sequence[bytes]: ...


class ByteTokenizer:
    """Token n is byte n; 256 begins a text and 257 ends it, where the vocabulary has them."""

    BOS, EOS = 256, 257

    def __init__(self, vocab_size: int, *, add_bos: bool = True) -> None:
        if vocab_size < 256:
            raise UsageError(f"a byte tokenizer needs a vocabulary of at least 256, the model has {vocab_size}")
        self._begin = [self.BOS] if add_bos and vocab_size > self.BOS else []
        self._vocabulary = [bytes([b]) for b in range(256)] + [b""] * (vocab_size - 256)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        return (self._begin if special else []) + list(text.encode("utf-8", errors="replace"))

    def token_bytes(self, token: int) -> bytes:
        return self._vocabulary[token]

    def vocabulary(self, size: int) -> Sequence[bytes]:
        return self._vocabulary[:size]


class HubTokenizer:
    """A checkpoint's `tokenizer.json`, or one made from GGUF metadata (`gguf_tokenizer`)."""

    def __init__(self, tokenizer: Any, document: dict[str, Any]) -> None:
        self._tokenizer = tokenizer
        self._bytes_of = _decoder(document)
        self._special = {t["id"] for t in document.get("added_tokens", []) if t.get("special")}
        self._plain = {t["id"]: t["content"] for t in document.get("added_tokens", []) if not t.get("special")}
        self._vocabulary: list[bytes] = []

    @classmethod
    def from_file(cls, path: Path) -> HubTokenizer:
        """Raises UsageError when the package is not installed, FormatError for a damaged file."""
        text = path.read_text(encoding="utf-8")
        return cls.from_json(text, path.name)

    @classmethod
    def from_json(cls, text: str, name: str) -> HubTokenizer:
        try:
            import tokenizers
        except ImportError:
            raise UsageError("this checkpoint brings a tokenizer; install the package 'tokenizers' to use it") from None
        try:
            return cls(tokenizers.Tokenizer.from_str(text), json.loads(text))
        except Exception as error:  # the package raises bare Exception
            if isinstance(error, UsageError):
                raise
            raise FormatError(f"{name}: {str(error)[:120]}") from None

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=special).ids)

    def token_bytes(self, token: int) -> bytes:
        vocabulary = self.vocabulary(token + 1)
        return vocabulary[token]

    def vocabulary(self, size: int) -> Sequence[bytes]:
        while len(self._vocabulary) < size:
            token = len(self._vocabulary)
            if token in self._plain:
                self._vocabulary.append(self._plain[token].encode())
                continue
            text = None if token in self._special else self._tokenizer.id_to_token(token)
            self._vocabulary.append(b"" if text is None else self._bytes_of(text))
        return self._vocabulary[:size] if len(self._vocabulary) != size else self._vocabulary


def _decoder(document: dict[str, Any]) -> Any:
    """How this tokenizer's tokens spell bytes, from its `decoder` entry."""
    decoder = document.get("decoder") or {}
    kinds = [decoder.get("type")] + [d.get("type") for d in decoder.get("decoders", [])]
    if "ByteLevel" in kinds:
        table = {char: byte for byte, char in byte_characters().items()}
        return lambda text: bytes(table[c] for c in text) if all(c in table for c in text) else text.encode()
    if "ByteFallback" in kinds or "Metaspace" in kinds:
        return _sentencepiece_bytes
    raise UsageError(
        f"tokenizers with the decoder {decoder.get('type')!r} are not implemented; ByteLevel and Metaspace are"
    )


def _sentencepiece_bytes(text: str) -> bytes:
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return bytes([int(text[3:5], 16)])
    return text.replace("\u2581", " ").encode()


def byte_characters() -> dict[int, str]:
    """GPT-2's printable character for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {b: chr(b) for b in printable}
    for n, byte in enumerate(b for b in range(256) if b not in table):
        table[byte] = chr(256 + n)
    return table
