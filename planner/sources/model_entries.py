"""One entry of catalog/models/*.yaml into a `ModelSpec`.

An entry holds the config keys that count, the published facts and the known checkpoints; this file
knows its shape, `hf_config` the configs. Reading YAML is the catalog's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from planner.errors import CatalogError, PlannerError
from planner.sources.hf_config import parse_config
from planner.spec.base import Provenance
from planner.spec.model import Checkpoint, ModelSpec

_FIELDS = {
    "family", "aliases", "parameters", "parameters_note", "context_length", "license", "gated", "revision",
    "chat_stop", "instruct", "modality", "quantization", "quantization_group_size", "unquantized", "assumptions",
    "dtype", "fp8_roles", "also_quantized",
}  # fmt: skip
_OTHER = {"id", "config", "checkpoints", "source", "date", "basis", "note"}


def expanded(entry: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """The entry, and one more for each of its `variants`: other weights of the very same shapes.

    A variant has an id of its own, its source, and what differs; aliases and checkpoints are never shared.
    """
    variants = cast("list[Mapping[str, object]]", entry.get("variants", []))
    yield {k: v for k, v in entry.items() if k != "variants"}
    shared = {k: v for k, v in entry.items() if k not in ("variants", "aliases", "checkpoints", "note", "revision")}
    for variant in variants:
        yield {**shared, **variant}


def parse_entry(entry: Mapping[str, object]) -> ModelSpec:
    """The model of one catalog entry. Raises CatalogError that names the entry and the field."""
    name = str(entry.get("id", "an entry without id"))
    unknown = set(entry) - _FIELDS - _OTHER
    if unknown:
        raise CatalogError(f"{name}: unknown key {sorted(unknown)[0]!r}")
    config = entry.get("config")
    if not isinstance(config, Mapping) or "id" not in entry:
        raise CatalogError(f"{name}: needs id and config")
    try:
        overrides: dict[str, object] = {k: entry[k] for k in _FIELDS if k in entry}
        rows = cast("list[Mapping[str, object]]", entry.get("checkpoints", []))
        overrides["checkpoints"] = tuple(_checkpoint(row) for row in rows)
        return parse_config(config, id=name, provenance=_provenance(entry), **overrides)
    except PlannerError as error:
        raise CatalogError(f"{name}: {error}") from error
    except ValueError as error:
        raise CatalogError(f"{name}: {str(error).splitlines()[0]}") from error


def _provenance(row: Mapping[str, object]) -> Provenance:
    return Provenance.model_validate({k: row[k] for k in ("source", "date", "basis", "note") if k in row})


def _checkpoint(row: Mapping[str, object]) -> Checkpoint:
    fields = {k: v for k, v in row.items() if k not in ("source", "date", "basis", "note")}
    return Checkpoint.model_validate({**fields, "provenance": _provenance(row)})
