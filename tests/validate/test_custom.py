"""Our schemas of custom resources are strict: what they do not name is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner.errors import UnknownNameError
from planner.resources import folder
from planner.validate import custom

SCHEMAS = sorted((folder("templates") / "schemas").glob("*.yaml"))
PODS = ("predictor", "pod", "main", "contains")
"""PodSpecs: what Kubernetes' own schema is strict about (see `custom.pods`)."""


def open_objects(schema: Any, path: str) -> Iterator[str]:
    """Places of a schema where an object may hold what nobody named."""
    if isinstance(schema, list):
        for index, item in enumerate(schema):
            yield from open_objects(item, f"{path}/{index}")
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object":
        closed = schema.get("additionalProperties", True) is not True or schema.get("maxProperties") == 0
        if not closed and not any(part in PODS for part in path.split("/")):
            yield path
    for key, value in schema.items():
        yield from open_objects(value, f"{path}/{key}")


@pytest.mark.parametrize("path", [p for p in SCHEMAS if not p.stem.startswith("values-")], ids=lambda p: p.stem)
def test_no_object_of_a_custom_resource_is_open(path: Path) -> None:
    assert list(open_objects(yaml.safe_load(path.read_text(encoding="utf-8")), "")) == []


@pytest.mark.parametrize("path", [p for p in SCHEMAS if p.stem != "common"], ids=lambda p: p.stem)
def test_an_unknown_field_is_refused_at_the_top(path: Path) -> None:
    if path.stem.startswith("values-"):
        problems = custom.values_problems(path.stem.removeprefix("values-"), {"surprise": 1})
    else:
        problems = custom.problems({"kind": path.stem, "surprise": 1})
    assert any("surprise" in problem for problem in problems)


def test_a_kind_without_schema_is_named() -> None:
    with pytest.raises(UnknownNameError, match="Surprise"):
        custom.problems({"kind": "Surprise"})
