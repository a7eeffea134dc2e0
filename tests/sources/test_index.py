"""The compiled catalog: found by any spelling, rebuilt when facts change, never half-written."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.errors import CatalogError
from planner.sources import index
from planner.sources.catalog import Catalog
from planner.sources.index import Row, fold, open_index

ROWS: list[Row] = [
    ("thing", "RTX-4090", "{}", ("RTX 4090", "4090")),
    ("thing", "A100", "{}", ()),
    ("silent", "vllm/A100", "{}", None),
]


def rows() -> Iterator[Row]:
    yield from ROWS


@pytest.mark.parametrize("name", ["rtx-4090", "RTX 4090", "rtx_4090", "RTX4090"])
def test_spelling_does_not_matter(name: str) -> None:
    assert fold(name) == fold("RTX-4090")


def test_the_index_is_kept_and_not_built_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANNER_CACHE_DIR", str(tmp_path))
    first = open_index(rows)
    assert first.execute("SELECT count(*) FROM entry").fetchone() == (3,)
    first.close()

    def never() -> Iterator[Row]:
        raise AssertionError("built twice")
        yield

    again = open_index(never)
    assert again.execute("SELECT id FROM name WHERE folded = '4090'").fetchone() == ("RTX-4090",)
    again.close()
    assert [p.suffix for p in tmp_path.iterdir()] == [".sqlite"]


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [("PLANNER_CACHE_DIR", "c2", "c2"), ("XDG_CACHE_HOME", "rel", "rel/planner")],
)
def test_a_relative_cache_folder_is_below_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, kept: str
) -> None:
    monkeypatch.delenv("PLANNER_CACHE_DIR", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    found = open_index(rows)
    assert found.execute("SELECT count(*) FROM entry").fetchone() == (3,)
    found.close()
    assert [p.suffix for p in (tmp_path / kept).iterdir()] == [".sqlite"]


def test_a_changed_fact_changes_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hardware", "catalog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.yaml").write_text("a: 1\n", encoding="utf-8")
    monkeypatch.setattr(index, "folder", lambda name: tmp_path / name)
    before = index.fingerprint()
    (tmp_path / "catalog" / "x.yaml").write_text("a: 12\n", encoding="utf-8")
    assert index.fingerprint() != before


def test_without_a_writable_folder_it_lives_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("", encoding="utf-8")
    monkeypatch.setenv("PLANNER_CACHE_DIR", str(blocker / "cache"))
    connection = open_index(rows)
    assert connection.execute("SELECT count(*) FROM entry").fetchone() == (3,)
    connection.close()


def test_a_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANNER_CACHE_DIR", str(tmp_path))

    def broken() -> Iterator[Row]:
        yield from ROWS
        raise CatalogError("x.yaml: broken")

    with pytest.raises(CatalogError, match="broken"):
        open_index(broken)
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_two_entries_is_refused_with_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANNER_CACHE_DIR", str(tmp_path))
    clash: list[Row] = [*ROWS, ("thing", "other", "{}", ("rtx4090",))]
    with pytest.raises(CatalogError, match=r"RTX-4090.*other"):
        open_index(lambda: iter(clash))


def test_every_kind_of_the_real_catalog_has_entries(catalog: Catalog) -> None:
    assert len(catalog.models()) > 200
    assert len([a for a in catalog.accelerators() if a.plannable]) >= 120
    assert len(catalog.cpus()) >= 12
    assert len(catalog.instances()) >= 280
    assert {"vllm", "tgi", "ollama"} <= {r.engine for r in catalog.releases()}
    assert catalog.guide()
    assert catalog.calibration.efficiencies
    assert isinstance(catalog._connection, sqlite3.Connection)
