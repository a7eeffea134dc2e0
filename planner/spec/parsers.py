"""Which parser reads a model family's tool calls and thoughts: the file catalog/parsers.yaml."""

from __future__ import annotations

from planner.spec.base import Provenance, Spec


class ParserFamily(Spec):
    """Models whose id matches the pattern `ids`, any case. None: the family has no such thing, or none is known."""

    ids: str
    tool: str | None = None
    reasoning: str | None = None


class Parsers(Spec):
    """vLLM's names; the first family that matches counts."""

    schema_version: int
    provenance: Provenance
    families: tuple[ParserFamily, ...]
