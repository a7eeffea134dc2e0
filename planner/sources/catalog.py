"""The catalogs: accelerators, CPUs, links, instances, models, engine releases, formats, the guide.

Entries are validated once, when the index is compiled (`entries.py` reads them); a cold start then
parses only what it asks for. Knows nothing of estimating or choosing.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from functools import cache, cached_property
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
        self._found: dict[tuple[str, str], Spec] = {}
        self._hosts: dict[str, tuple[Instance, ...]] = {}
        self._versions: dict[str, list[str]] = {}

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

        if accelerator not in self._hosts:
            rows = self._connection.execute(
                "SELECT id, body FROM entry WHERE kind = 'instance' AND json_extract(body, '$.accelerator') = ?"
                " ORDER BY id",
                (accelerator,),
            )
            self._hosts[accelerator] = tuple(
                self._parsed("instance", identifier, body, Instance) for identifier, body in rows
            )
        return self._hosts[accelerator]

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

    def newest_releases(self, engine: str) -> Iterator[EngineRelease]:
        """Releases of one engine, newest first, each read when it is asked for."""
        from planner.spec.engine import EngineRelease

        if engine not in self._versions:
            select = "SELECT id FROM entry WHERE kind = 'engine' AND id LIKE ? || '/%'"
            ids = (identifier for (identifier,) in self._connection.execute(select, (engine,)))
            self._versions[engine] = sorted(ids, key=lambda i: version_key(i.partition("/")[2]), reverse=True)
        for identifier in self._versions[engine]:
            held = self._cache.get(("engine", identifier))
            if not isinstance(held, EngineRelease):
                select = "SELECT body FROM entry WHERE kind = 'engine' AND id = ?"
                (body,) = self._connection.execute(select, (identifier,)).fetchone()
                held = self._parsed("engine", identifier, body, EngineRelease)
            yield held

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

    def record(self, name: str, spec: type[S]) -> S:
        """The catalog file `name` as one `spec`. Raises CatalogError when it is missing or damaged."""
        from pydantic import ValidationError

        try:
            return spec.model_validate(self.document(name))
        except ValidationError as error:
            raise CatalogError(f"{name}.yaml: {' '.join(str(error).split())}") from None

    # -- index ------------------------------------------------------------------------------------

    def _all(self, kind: str, spec: type[S]) -> tuple[S, ...]:
        if kind not in self._lists:
            rows = self._connection.execute("SELECT id, body FROM entry WHERE kind = ? ORDER BY id", (kind,))
            self._lists[kind] = tuple(self._parsed(kind, identifier, body, spec) for identifier, body in rows)
        return cast("tuple[S, ...]", self._lists[kind])

    def _named(self, kind: str, name: str, spec: type[S], shown: str = "") -> S:
        found = self._found.get((kind, name))
        if isinstance(found, spec):
            return found
        row = self._connection.execute(
            "SELECT entry.id, body FROM name JOIN entry ON entry.kind = name.kind AND entry.id = name.id"
            " WHERE name.kind = ? AND folded = ?",
            (kind, fold(name)),
        ).fetchone()
        if row is None:
            raise UnknownNameError(shown or kind, name, self.names(kind))
        self._found[kind, name] = self._parsed(kind, row[0], row[1], spec)
        return cast("S", self._found[kind, name])

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


def _all_rows() -> Iterator[Row]:
    """Every entry of every catalog file, validated. Raises CatalogError for the first that is wrong."""
    from planner.sources.entries import entries

    for entry in entries(folder("hardware"), folder("catalog")):
        if entry.error:
            raise CatalogError(entry.error)
        body = json.dumps(entry.raw) if entry.record is None else entry.record.model_dump_json()
        yield entry.kind, entry.id, body, entry.names
