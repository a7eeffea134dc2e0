"""What `models show` and `hardware show` print: layers in ranges, memory that the GPU may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from planner.report.records import ranges, record_data
from planner.sources.machines import resolve_machine
from planner.units import GIB

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([4], "4"),
        ([0, 1, 2, 3], "0-3"),
        ([0, 1, 2, 5, 7, 8], "0-2, 5, 7-8"),
        ([1, 3, 5, 7], "1-7 step 2"),
        ([0, 4, 5, 6], "0, 4-6"),
        ([3, 7, 11, 12], "3-11 step 4, 12"),
        ([8, 2, 5], "2-8 step 3"),
    ],
)
def test_runs_of_layers_are_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


def test_a_model_shows_its_layers_in_few_lines_and_json_keeps_the_list(catalog: Catalog) -> None:
    model = catalog.model("gemma3:27b")
    shown = [group["layers"] for group in record_data(model, compact=True)["layers"]]
    assert shown[1] == "5-59 step 6"
    stored = [group["layers"] for group in record_data(model, compact=False)["layers"]]
    assert [tuple(group) for group in stored] == [group.layers for group in model.layers]


def test_an_apple_chip_shows_what_metal_may_wire_not_the_whole_ram(catalog: Catalog) -> None:
    chip = catalog.accelerator("m3-max")
    for record in (chip, resolve_machine(catalog, f"1xM3-Max-{chip.memory_bytes // GIB}GB")):
        data = record_data(record, compact=True)
        data = data.get("accelerator", data)
        assert data["usable_memory_bytes"] == chip.memory_bytes * 3 // 4
        assert "macOS" in data["usable_memory_note"]


def test_a_card_with_its_own_memory_shows_what_its_driver_reports(catalog: Catalog) -> None:
    card = catalog.accelerator("h100-sxm")
    data = record_data(card, compact=True)
    assert data["usable_memory_bytes"] == card.usable_memory_bytes
    assert "usable_memory_note" not in data
