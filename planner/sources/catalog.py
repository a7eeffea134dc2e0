"""The catalogs: accelerators, CPUs, links, instances, models, engine releases, formats, the guide.

The only reader of catalog YAML. Entries are validated once, when the index is compiled; a cold start
then parses only what it asks for. Knows nothing of estimating or choosing.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from planner.errors import CatalogError, UnknownNameError
from planner.resources import folder
from planner.sources.index import Row, fold, open_index
from planner.spec.base import Spec

if TYPE_CHECKING:
    from planner.spec.calibration import Calibration
    from planner.spec.engine import EngineRelease
    from planner.spec.guide import GuideRow
    from planner.spec.hardware import Accelerator, Cpu, Instance, Interconnect
    from planner.spec.model import ModelSpec
    from planner.spec.quantization import GgufType, KvFormat, QuantizationFormat

S = TypeVar("S", bound=Spec)


@cache
def load() -> Catalog:
    """The catalog of this installation."""
    return Catalog(open_index(_all_rows))


class Catalog:
    """Typed, cached access by id or by any name that people type."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._cache: dict[tuple[str, str], Spec] = {}
        self._lists: dict[str, tuple[Spec, ...]] = {}
        self._written: dict[str, tuple[str, ...]] = {}
        self._folded: dict[str, dict[str, str]] = {}

    # -- hardware ---------------------------------------------------------------------------------

    def accelerators(self) -> tuple[Accelerator, ...]:
        """Every accelerator, by id; those we cannot plan for have `plannable` false."""
        from planner.spec.hardware import Accelerator

        return self._all("accelerator", Accelerator)

    def accelerator(self, name: str) -> Accelerator:
        """By id or alias. Raises UnknownNameError."""
        from planner.spec.hardware import Accelerator

        return self._named("accelerator", name, Accelerator)

    def accelerator_names(self) -> dict[str, str]:
        """Folded name → id."""
        return self._names("accelerator")

    def cpus(self) -> tuple[Cpu, ...]:
        """Every CPU, by id."""
        from planner.spec.hardware import Cpu

        return self._all("cpu", Cpu)

    def cpu(self, name: str) -> Cpu:
        """By id or alias. Raises UnknownNameError."""
        from planner.spec.hardware import Cpu

        return self._named("cpu", name, Cpu)

    def interconnects(self) -> tuple[Interconnect, ...]:
        """Every link, by id."""
        from planner.spec.hardware import Interconnect

        return self._all("interconnect", Interconnect)

    def interconnect(self, name: str) -> Interconnect:
        """By id. Raises UnknownNameError."""
        from planner.spec.hardware import Interconnect

        return self._named("interconnect", name, Interconnect)

    def instances(self) -> tuple[Instance, ...]:
        """Every cloud instance, by provider and id."""
        from planner.spec.hardware import Instance

        return self._all("instance", Instance)

    def instances_with(self, accelerator: str) -> tuple[Instance, ...]:
        """Every instance with accelerators of that id, by provider and id."""
        from planner.spec.hardware import Instance

        rows = self._connection.execute(
            "SELECT id, body FROM entry WHERE kind = 'instance' AND json_extract(body, '$.accelerator') = ?"
            " ORDER BY id",
            (accelerator,),
        )
        return tuple(self._parsed("instance", identifier, body, Instance) for identifier, body in rows)

    def instance(self, provider: str, name: str) -> Instance:
        """By provider and instance type. Raises UnknownNameError."""
        from planner.spec.hardware import Instance

        return self._named("instance", f"{provider}/{name}", Instance)

    # -- models, engines, formats -----------------------------------------------------------------

    def models(self) -> tuple[ModelSpec, ...]:
        """Every model, by id."""
        from planner.spec.model import ModelSpec

        return self._all("model", ModelSpec)

    def model(self, name: str) -> ModelSpec:
        """By Hub id or alias. Raises UnknownNameError."""
        from planner.spec.model import ModelSpec

        return self._named("model", name, ModelSpec)

    def names(self, kind: str) -> tuple[str, ...]:
        """Every id and alias of `kind` as written, sorted."""
        if kind not in self._written:
            rows = self._connection.execute("SELECT written FROM name WHERE kind = ? ORDER BY written", (kind,))
            self._written[kind] = tuple(written for (written,) in rows)
        return self._written[kind]

    def releases(self, engine: str | None = None) -> tuple[EngineRelease, ...]:
        """Every engine release, newest first within an engine."""
        from planner.spec.engine import EngineRelease

        found = [r for r in self._all("engine", EngineRelease) if engine in (None, r.engine)]
        return tuple(sorted(found, key=lambda r: (r.engine, tuple(-n for n in version_key(r.version)))))

    def formats(self) -> tuple[QuantizationFormat, ...]:
        """Every weight format, by id."""
        from planner.spec.quantization import QuantizationFormat

        return self._all("format", QuantizationFormat)

    def format(self, name: str) -> QuantizationFormat:
        """By id or alias. Raises UnknownNameError."""
        from planner.spec.quantization import QuantizationFormat

        return self._named("format", name, QuantizationFormat, shown="quantization")

    def gguf_types(self) -> dict[str, GgufType]:
        """ggml tensor types by id."""
        from planner.spec.quantization import GgufType

        return {t.id: t for t in self._all("gguf_type", GgufType)}

    def kv_formats(self) -> tuple[KvFormat, ...]:
        """Every KV-cache element format, by id."""
        from planner.spec.quantization import KvFormat

        return self._all("kv_format", KvFormat)

    def kv_format(self, name: str) -> KvFormat:
        """By id or alias. Raises UnknownNameError."""
        from planner.spec.quantization import KvFormat

        return self._named("kv_format", name, KvFormat, shown="KV cache dtype")

    def guide(self) -> tuple[GuideRow, ...]:
        """The decision guide, in the file's order."""
        from planner.spec.guide import GuideRow

        return tuple(GuideRow.model_validate(row) for row in self.document("guide")["guide"])

    @cached_property
    def calibration_sha256(self) -> str:
        """Hash of the fits and bands, as they stand in the files."""
        digest = hashlib.sha256()
        rows = self._connection.execute(
            "SELECT id, body FROM entry WHERE kind IN ('efficiency', 'band') ORDER BY kind, id"
        )
        for identifier, body in rows:
            digest.update(f"{identifier}\0{body}\n".encode())
        return digest.hexdigest()

    @cached_property
    def calibration(self) -> Calibration:
        """Everything under catalog/calibration/."""
        from planner.spec.calibration import Band, Calibration, Efficiency

        efficiencies, bands = self._all("efficiency", Efficiency), self._all("band", Band)
        return Calibration(efficiencies=efficiencies, bands=bands)

    def document(self, name: str) -> dict[str, Any]:
        """A catalog file that is read whole (`guide`, `quantization`), as plain data."""
        row = self._connection.execute("SELECT body FROM entry WHERE kind = 'document' AND id = ?", (name,)).fetchone()
        if row is None:
            raise CatalogError(f"catalog/{name}.yaml is missing")
        data: dict[str, Any] = json.loads(row[0])
        return data

    # -- index ------------------------------------------------------------------------------------

    def _all(self, kind: str, spec: type[S]) -> tuple[S, ...]:
        if kind not in self._lists:
            rows = self._connection.execute("SELECT id, body FROM entry WHERE kind = ? ORDER BY id", (kind,))
            self._lists[kind] = tuple(self._parsed(kind, identifier, body, spec) for identifier, body in rows)
        return cast("tuple[S, ...]", self._lists[kind])

    def _named(self, kind: str, name: str, spec: type[S], shown: str = "") -> S:
        row = self._connection.execute(
            "SELECT entry.id, body FROM name JOIN entry ON entry.kind = name.kind AND entry.id = name.id"
            " WHERE name.kind = ? AND folded = ?",
            (kind, fold(name)),
        ).fetchone()
        if row is None:
            raise UnknownNameError(shown or kind, name, self.names(kind))
        return self._parsed(kind, row[0], row[1], spec)

    def _parsed(self, kind: str, identifier: str, body: str, spec: type[S]) -> S:
        held = self._cache.get((kind, identifier))
        if not isinstance(held, spec):
            held = self._cache[kind, identifier] = spec.model_validate_json(body)
        return held

    def _names(self, kind: str) -> dict[str, str]:
        if kind not in self._folded:
            self._folded[kind] = dict(self._connection.execute("SELECT folded, id FROM name WHERE kind = ?", (kind,)))
        return self._folded[kind]


def version_key(version: str) -> tuple[int, ...]:
    """`0.33.0` → (0, 33, 0); anything that is no number counts as 0."""
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in version.split("."))


# -- compiling ------------------------------------------------------------------------------------


def read_yaml(path: Path) -> dict[str, Any]:
    """One catalog file. Raises CatalogError when it is not a YAML mapping."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except yaml.YAMLError as error:
        raise CatalogError(f"{path.name}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise CatalogError(f"{path.name}: expected a mapping at the top")
    return data


def _all_rows() -> Iterator[Row]:
    """Every entry of every catalog file, validated."""
    from planner.sources.model_entries import parse_entry
    from planner.spec.calibration import Band, Efficiency
    from planner.spec.engine import EngineRelease
    from planner.spec.hardware import Accelerator, Cpu, Instance, Interconnect
    from planner.spec.quantization import GgufType, KvFormat, QuantizationFormat

    simple: tuple[tuple[Path, str, str, str, type[Spec]], ...] = (
        (folder("hardware"), "accelerators/**/*.yaml", "accelerators", "accelerator", Accelerator),
        (folder("hardware"), "cpus/*.yaml", "cpus", "cpu", Cpu),
        (folder("hardware"), "interconnects.yaml", "interconnects", "interconnect", Interconnect),
        (folder("hardware"), "clouds/*.yaml", "instances", "instance", Instance),
        (folder("catalog"), "engines/*/*.yaml", "", "engine", EngineRelease),
        (folder("catalog"), "quantization.yaml", "formats", "format", QuantizationFormat),
        (folder("catalog"), "quantization.yaml", "gguf_types", "gguf_type", GgufType),
        (folder("catalog"), "quantization.yaml", "kv_formats", "kv_format", KvFormat),
        (folder("catalog"), "calibration/*.yaml", "efficiencies", "efficiency", Efficiency),
        (folder("catalog"), "calibration/*.yaml", "bands", "band", Band),
    )
    for root, pattern, key, kind, spec in simple:
        for path in sorted(root.glob(pattern)):
            document = read_yaml(path) if key else _extended(path)
            for entry in _entries(document, key, path):
                record = _validated(spec, entry, path)
                names = None if kind in ("efficiency", "band") else tuple(getattr(record, "aliases", ()))
                yield kind, _identifier(kind, record), record.model_dump_json(), names
    for path in sorted((folder("catalog") / "models").glob("*.yaml")):
        for entry in read_yaml(path).get("models", []):
            try:
                model = parse_entry(_plain(entry))
            except (ValueError, LookupError, TypeError) as error:
                raise CatalogError(f"{path.name}: {entry.get('id')}: {_one_line(error)}") from error
            yield "model", model.id, model.model_dump_json(), model.aliases
    for path in sorted(folder("catalog").glob("*.yaml")):
        document = read_yaml(path)
        if "guide" in document:
            document["guide"] = list(_entries(document, "guide", path))
        yield "document", path.stem, json.dumps(_plain(document)), None


def _extended(path: Path) -> dict[str, Any]:
    """A release's file over the older or newer one that it `extends`: mappings merge, the rest replaces."""
    document = read_yaml(path)
    base = document.pop("extends", None)
    if base is None:
        return document
    parent = path.with_name(f"{base}.yaml")
    if not parent.exists() or parent == path:
        raise CatalogError(f"{path.name}: extends {base!r}, which is no file beside it")
    return _merged(_extended(parent), document)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for key in ("defaults", "memory", "coefficients"):
        if isinstance(below.get(key), dict) and isinstance(above.get(key), dict):
            merged[key] = _merged(below[key], above[key])
    return merged


def _entries(document: dict[str, Any], key: str, path: Path) -> Iterator[dict[str, Any]]:
    """Entries under `key`, each with the file's shared keys and a provenance of its own."""
    entries = document.get(key, []) if key else [document]
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise CatalogError(f"{path.name}: {key!r} must be a list of mappings")
    shared = {k: document[k] for k in ("provider",) if k in document and key}
    for raw in entries:
        entry = {**shared, **raw}
        entry.pop("schema", None)
        own = {k: entry.pop(k) for k in ("source", "date", "basis", "note") if k in entry and "provenance" not in entry}
        if "provenance" not in entry:
            inherited = document.get("provenance") or {
                k: document[k] for k in ("source", "date", "basis") if k in document
            }
            entry["provenance"] = {**inherited, **own}
        yield _plain(entry)


def _plain(value: Any) -> Any:
    """YAML dates as ISO text; everything else as it is."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


def _validated(spec: type[S], entry: dict[str, Any], path: Path) -> S:
    from pydantic import ValidationError

    try:
        return spec.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        name = entry.get("id") or entry.get("name") or entry.get("version")
        raise CatalogError(f"{path.name}: {name}: {where}: {first['msg']}") from error


def _identifier(kind: str, record: Spec) -> str:
    fields = {
        "instance": ("provider", "id"),
        "engine": ("engine", "version"),
        "efficiency": ("engine", "scope"),
        "band": ("metric", "engine", "scope"),
    }.get(kind, ("id",))
    return "/".join(str(getattr(record, field)) for field in fields)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
