"""What a client must change between two engines, one row a subject."""

from __future__ import annotations

from planner.spec.base import Provenance, Spec


class MigrationRow(Spec):
    """`what` behaves as `from_ollama` says before the switch and as `to_vllm` says after it."""

    what: str
    from_ollama: str
    to_vllm: str
    provenance: Provenance


class Migration(Spec):
    """The file catalog/migration.yaml."""

    schema_version: int
    rows: tuple[MigrationRow, ...]
