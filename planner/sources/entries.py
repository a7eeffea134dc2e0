"""Every entry of the data files, one at a time: read, completed with what its file shares, validated.

The only reader of catalog YAML. A wrong entry is an `Entry` that says what is wrong; who reads the
catalog to plan with it raises the first (`catalog.py`), who checks it lists them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from planner.errors import CatalogError
from planner.records import dataclass
from planner.spec.base import Spec


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of one file. `raw` is plain data; `record` is None when `error` says why."""

    path: Path
    kind: str
    id: str
    raw: Mapping[str, Any]
    record: Spec | None = None
    error: str = ""

    @property
    def names(self) -> tuple[str, ...] | None:
        """Further names it is found by; None: it is never looked up by name."""
        if self.kind in ("efficiency", "band", "family", "document"):
            return None
        return tuple(getattr(self.record, "aliases", ()))


def entries(hardware: Path, catalog: Path) -> Iterator[Entry]:
    """Every entry under the two folders, files in order. A file that cannot be read is one entry with its error."""
    for root, pattern, key, kind in _PLACES:
        for path in sorted({"hardware": hardware, "catalog": catalog}[root].glob(pattern)):
            try:
                document = read_yaml(path) if key else _extended(path)
                rows = list(_rows(document, key, path))
            except CatalogError as error:
                yield Entry(path, kind, path.stem, {}, None, str(error))
                continue
            yield from (parsed(path, kind, row) for row in rows)
    from planner.sources.model_entries import expanded

    for path in sorted((catalog / "models").glob("*.yaml")):
        try:
            rows = list(_list(read_yaml(path), "models", path))
        except CatalogError as error:
            yield Entry(path, "model", path.stem, {}, None, str(error))
            continue
        yield from (parsed(path, "model", plain(one)) for row in rows for one in expanded(row))
    for path in sorted(catalog.glob("*.yaml")):
        try:
            document = read_yaml(path)
            if "guide" in document:
                document["guide"] = list(_rows(document, "guide", path))
        except CatalogError as error:
            yield Entry(path, "document", path.stem, {}, None, str(error))
            continue
        yield Entry(path, "document", path.stem, plain(document))


_PLACES = (
    ("hardware", "accelerators/**/*.yaml", "accelerators", "accelerator"),
    ("hardware", "cpus/*.yaml", "cpus", "cpu"),
    ("hardware", "interconnects.yaml", "interconnects", "interconnect"),
    ("hardware", "families.yaml", "families", "family"),
    ("hardware", "clouds/*.yaml", "instances", "instance"),
    ("catalog", "engines/*/*.yaml", "", "engine"),
    ("catalog", "quantization.yaml", "formats", "format"),
    ("catalog", "quantization.yaml", "gguf_types", "gguf_type"),
    ("catalog", "quantization.yaml", "kv_formats", "kv_format"),
    ("catalog", "calibration/*.yaml", "efficiencies", "efficiency"),
    ("catalog", "calibration/*.yaml", "bands", "band"),
)
"""Folder, files, the key that holds the list (none: the file is one entry), kind."""


def parsed(path: Path, kind: str, raw: Mapping[str, Any]) -> Entry:
    """`raw` as the record of its kind, or as an entry that says what is wrong with it."""
    if kind == "model":
        return _model(path, raw)
    from pydantic import ValidationError

    try:
        record = _spec(kind).model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        name = raw.get("id") or raw.get("name") or raw.get("version")
        return Entry(path, kind, str(name), raw, None, f"{path.name}: {name}: {where}: {first['msg']}")
    return Entry(path, kind, _identifier(kind, record), raw, record)


def _model(path: Path, raw: Mapping[str, Any]) -> Entry:
    from planner.sources.model_entries import parse_entry

    identifier = str(raw.get("id"))
    try:
        return Entry(path, "model", identifier, raw, parse_entry(raw))
    except (CatalogError, ValueError, LookupError, TypeError) as error:
        return Entry(path, "model", identifier, raw, None, f"{path.name}: {identifier}: {_one_line(error)}")


def _spec(kind: str) -> type[Spec]:
    from planner.spec import calibration, engine, hardware, quantization

    kinds: dict[str, type[Spec]] = {
        "accelerator": hardware.Accelerator,
        "cpu": hardware.Cpu,
        "interconnect": hardware.Interconnect,
        "family": hardware.Family,
        "instance": hardware.Instance,
        "engine": engine.EngineRelease,
        "format": quantization.QuantizationFormat,
        "gguf_type": quantization.GgufType,
        "kv_format": quantization.KvFormat,
        "efficiency": calibration.Efficiency,
        "band": calibration.Band,
    }
    return kinds[kind]


def read_yaml(path: Path) -> dict[str, Any]:
    """One catalog file. Raises CatalogError when it is not a YAML mapping."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path.name}: cannot be read: {_one_line(error)}") from None


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """The text of the catalog file `name`. Raises CatalogError when it is not a YAML mapping."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        data = yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise CatalogError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise CatalogError(f"{name}: expected a mapping at the top")
    return data


def _extended(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A release's file over the older or newer one that it `extends`: mappings merge, the rest replaces."""
    document = read_yaml(path)
    base = document.pop("extends", None)
    if base is None:
        return document
    parent = path.with_name(f"{base}.yaml")
    if not parent.exists() or parent in (path, *seen):
        raise CatalogError(f"{path.name}: extends {base!r}, which is no other file beside it")
    return _merged(_extended(parent, (*seen, path)), document)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for key in ("defaults", "memory", "coefficients"):
        if isinstance(below.get(key), dict) and isinstance(above.get(key), dict):
            merged[key] = _merged(below[key], above[key])
    return merged


def _list(document: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    found = document.get(key, [])
    if not isinstance(found, list) or not all(isinstance(e, dict) for e in found):
        raise CatalogError(f"{path.name}: {key!r} must be a list of mappings")
    return found


def _rows(document: dict[str, Any], key: str, path: Path) -> Iterator[dict[str, Any]]:
    """Entries under `key`, each with the file's shared keys and a provenance of its own."""
    found = _list(document, key, path) if key else [document]
    shared = {k: document[k] for k in ("provider",) if k in document and key}
    for raw in found:
        entry = {**shared, **raw}
        entry.pop("schema", None)
        own = {k: entry.pop(k) for k in ("source", "date", "basis", "note") if k in entry and "provenance" not in entry}
        if "provenance" not in entry:
            inherited = document.get("provenance") or {
                k: document[k] for k in ("source", "date", "basis") if k in document
            }
            entry["provenance"] = {**inherited, **own}
        yield plain(entry)


def plain(value: Any) -> Any:
    """YAML dates as ISO text; everything else as it is."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


def _identifier(kind: str, record: Spec) -> str:
    fields = {
        "instance": ("provider", "id"),
        "engine": ("engine", "version"),
        "efficiency": ("engine", "scope"),
        "band": ("metric", "engine", "scope", "format_kind", "moe"),
    }.get(kind, ("id",))
    return "/".join(str(getattr(record, field)) for field in fields)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
