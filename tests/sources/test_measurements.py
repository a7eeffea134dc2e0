"""Measured rows parse, name what the catalog knows, and say where they come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from planner.errors import CatalogError
from planner.resources import folder
from planner.sources.catalog import Catalog
from planner.sources.entries import read_yaml
from planner.sources.measurements import _parsed, left_out, memory_rows, speed_rows
from planner.spec.measurement import SpeedRow


def test_every_row_names_a_catalogued_model_device_and_format(catalog: Catalog) -> None:
    cpus = {c.id for c in catalog.cpus()}
    for row in {(r.model, r.accelerator, r.quantization, r.kv_cache_dtype): r for r in (*speed_rows(), *memory_rows())}:
        model, device, quantization, cache = row
        assert catalog.model(model).id == model or model in catalog.model(model).aliases
        assert not device or device in cpus or catalog.accelerator(device).id == device
        assert catalog.format(quantization)
        assert catalog.kv_format(cache)


def test_every_row_is_positive_and_has_an_origin() -> None:
    for row in (*speed_rows(), *memory_rows()):
        assert row.value > 0
        assert row.source
        assert row.date


def test_names_point_at_the_catalog(catalog: Catalog) -> None:
    names = read_yaml(folder("catalog") / "measurements" / "names.yaml")
    for model in filter(None, {*names["models"].values(), *names["gguf_models"].values()}):
        assert catalog.model(model)
    cpus = {c.id for c in catalog.cpus()}
    for device in filter(None, names["devices"].values()):
        assert device in cpus or catalog.accelerator(device).id == device


def test_what_is_left_out_has_a_reason() -> None:
    entries = left_out()
    assert len(entries) > 50
    assert all(e.reason and e.rows > 0 for e in entries)


def test_equal_rows_share_a_key_and_others_do_not() -> None:
    rows = speed_rows()
    by_key = {r.key: r for r in rows}
    for row in rows:
        assert by_key[row.key].value == row.value
    changed = rows[0].model_copy(update={"concurrency": rows[0].concurrency + 1})
    assert SpeedRow.model_validate(changed.model_dump()).key != rows[0].key


@pytest.mark.parametrize("settings", ["eager", "no_such_default=1", "async_scheduling=true decode_graphs=half"])
def test_settings_that_no_release_has_are_refused(settings: str) -> None:
    """In one line that names the setting, not the row's other ones."""
    row = speed_rows()[0].model_dump() | {"settings": settings}
    with pytest.raises(ValidationError, match=f"'{settings.rsplit(maxsplit=1)[-1]}' is no field=value"):
        SpeedRow.model_validate(row)


def test_a_row_that_does_not_parse_is_named(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("engine,load,value\nvllm,static,fast\n", encoding="utf-8")
    with pytest.raises(CatalogError, match=r"odd\.csv:2"):
        list(_parsed(path, SpeedRow))
