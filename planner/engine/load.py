"""A directory or GGUF file to a model, its tokenizer and its chat template. The only place that knows all three."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.engine.byte_vocabulary import byte_document
from planner.engine.chat import ChatTemplate
from planner.engine.config import ModelConfig
from planner.engine.gguf_config import from_gguf, with_rope_factors
from planner.engine.gguf_tokenizer import tokenizer_from_gguf
from planner.engine.gguf_weights import GgufSource
from planner.engine.hf_config import from_hf
from planner.engine.tokenizer import ByteTokenizer, HubTokenizer, Tokenizer
from planner.engine.weights import SafetensorsSource, Weights, collect, read_json
from planner.errors import UsageError
from planner.formats.gguf import read_header
from planner.formats.reader import FileReader


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that a model directory or a GGUF file says."""

    name: str
    config: ModelConfig
    weights: Weights
    tokenizer: Tokenizer
    template: ChatTemplate


def load(path: Path) -> Checkpoint:
    """Read and check a checkpoint. Raises UsageError, UnknownNameError or FormatError, one line each."""
    if path.is_dir():
        return _from_directory(path)
    if path.suffix == ".gguf" and path.is_file():
        return _from_gguf(path)
    raise UsageError(f"{path.name!r} is neither a directory with config.json nor a .gguf file")


def _from_directory(path: Path) -> Checkpoint:
    document = read_json(path / "config.json")
    config = from_hf(document)
    quantization = document.get("quantization_config")
    source = SafetensorsSource(path, quantization if isinstance(quantization, dict) else None)
    try:
        weights = collect(source, config)
    finally:
        source.close()
    return Checkpoint(path.resolve().name, config, weights, _tokenizer(path, config.vocab_size), _template(path))


def _tokenizer(path: Path, vocab_size: int) -> Tokenizer:
    file = path / "tokenizer.json"
    if not file.is_file() or read_json(file) == byte_document():
        return ByteTokenizer(vocab_size)
    return HubTokenizer.from_file(file)


def _template(path: Path) -> ChatTemplate:
    settings_file, template_file = path / "tokenizer_config.json", path / "chat_template.jinja"
    settings = read_json(settings_file) if settings_file.is_file() else {}
    source = settings.get("chat_template")
    if isinstance(source, list):  # several by name
        source = next((t.get("template") for t in source if t.get("name") == "default"), None)
    if template_file.is_file():
        source = template_file.read_text(encoding="utf-8")
    return ChatTemplate(source, _special_tokens(settings))


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    tokens = {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = settings.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            tokens[name] = text
    return tokens


def _from_gguf(path: Path) -> Checkpoint:
    with FileReader(path) as reader:
        header = read_header(reader)
        config = from_gguf(header)
        source = GgufSource(reader, header, config)
        weights = collect(source, config)
        if "rope_freqs.weight" in header.tensors:
            config = with_rope_factors(config, source.tensor("rope_freqs.weight"))
    template = ChatTemplate(header.text("tokenizer.chat_template"), {"bos_token": "", "eos_token": ""})
    return Checkpoint(path.stem, config, weights, tokenizer_from_gguf(header, config.vocab_size), template)
