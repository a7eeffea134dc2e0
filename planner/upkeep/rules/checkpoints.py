"""Published checkpoints of a model: where they are, in which known format, of a size that fits it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from planner.estimate.tensors import parameter_count
from planner.spec.model import Checkpoint, ModelSpec
from planner.spec.quantization import QuantizationFormat
from planner.upkeep.rules.accelerators import within
from planner.upkeep.shelf import Finding, Shelf, found

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_TAG = re.compile(r"(?:[\w.-]+/)?[\w.-]+:[\w.-]+")


def findings(shelf: Shelf) -> Iterator[Finding]:
    """Each checkpoint of each model."""
    formats = {record.id: record for _, record in shelf.of("format", QuantizationFormat)}
    for entry, m in shelf.of("model", ModelSpec):
        seen: set[tuple[object, ...]] = set()
        for c in m.checkpoints:
            where = c.repo or c.ollama_tag or "a checkpoint"
            key = (c.quantization, c.repo, c.file, c.ollama_tag, c.revision)
            messages = [*_wrong(m, c, formats), *(["listed twice"] if key in seen else [])]
            seen.add(key)
            yield from found(entry, "checkpoints", (f"{where} ({c.quantization}): {text}" for text in messages))


def _wrong(m: ModelSpec, c: Checkpoint, formats: dict[str, QuantizationFormat]) -> Iterator[str]:
    if bool(c.repo) == bool(c.ollama_tag):
        yield "needs either repo or ollama_tag"
    if c.repo and not _REPO.fullmatch(c.repo):
        yield "repo is no org/name"
    if c.ollama_tag and not _TAG.fullmatch(c.ollama_tag):
        yield "ollama_tag is no name:tag"
    if c.quantization.startswith("gguf") and not (c.file or c.ollama_tag):
        yield "a GGUF repository needs the file"
    if not c.provenance.source.startswith("https://"):
        yield "the source is no https address"
    known = formats.get(c.quantization)
    if known is None:
        yield "no such quantization format"
    elif c.size_bytes is not None:
        share = c.size_bytes / (parameter_count(m) * known.weight_bits / 8)
        yield from within("size over parameters x bits", share, 0.85, 1.6, "times")
