"""Custom resources and third-party charts' values against our own schemas (templates/schemas).

The schemas hold the fields that we write, as the documentation of each project describes them, and
refuse every other. Knows nothing of plans; core objects have Kubernetes' own schemas.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from planner.errors import UnknownNameError
from planner.resources import folder

_COMMON = "common"


def has_schema(document: dict[str, Any]) -> bool:
    """True for a custom resource that we have a schema of."""
    return str(document.get("kind")) in _names()


def problems(document: dict[str, Any]) -> tuple[str, ...]:
    """What is wrong with a custom resource, one line each. Raises UnknownNameError for a kind without schema."""
    kind = str(document.get("kind"))
    if kind not in _names():
        raise UnknownNameError("custom resource", kind, _names())
    return _problems(kind, document)


def values_problems(chart: str, values: dict[str, Any]) -> tuple[str, ...]:
    """What is wrong with values for `chart`, one line each. Raises UnknownNameError for a chart without schema."""
    name = f"values-{chart}"
    if name not in _names():
        raise UnknownNameError("chart", chart, (n.removeprefix("values-") for n in _names()))
    return _problems(name, values)


def pods(document: object) -> Iterator[dict[str, Any]]:
    """Every PodSpec in a document, wherever it is: a mapping with a list of containers that have images.

    Fields of a KServe predictor that are no PodSpec's are left out.
    """
    if isinstance(document, dict):
        containers = document.get("containers")
        if isinstance(containers, list) and all(isinstance(c, dict) and "name" in c for c in containers):
            ours = ("minReplicas", "maxReplicas", "timeout", "deploymentStrategy")
            yield {key: value for key, value in document.items() if key not in ours}
        else:
            for value in document.values():
                yield from pods(value)
    elif isinstance(document, list):
        for value in document:
            yield from pods(value)


@cache
def _names() -> tuple[str, ...]:
    found = sorted(path.stem for path in (folder("templates") / "schemas").glob("*.yaml"))
    return tuple(name for name in found if name != _COMMON)


@cache
def _read(name: str) -> dict[str, Any]:
    import yaml

    text = (folder("templates") / "schemas" / f"{name}.yaml").read_text(encoding="utf-8")
    schema: dict[str, Any] = yaml.safe_load(text)
    return schema


def _problems(name: str, document: object) -> tuple[str, ...]:
    from jsonschema import Draft202012Validator

    schema = _read(name)
    whole = {**schema, "$defs": {**_read(_COMMON), **schema.get("$defs", {})}}
    found = Draft202012Validator(whole).iter_errors(document)
    return tuple(f"{error.json_path}: {error.message}" for error in sorted(found, key=lambda error: error.json_path))
