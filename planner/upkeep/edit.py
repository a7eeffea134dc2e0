"""Changes to one entry of a data file, as text: comments, order and everything else stay as they are.

Places are taken from YAML's own node positions; afterwards the new text is read again and must hold
exactly the entry that was meant, with every other entry untouched. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

from planner.errors import CatalogError
from planner.sources.entries import parse_yaml, plain

REMOVED: Final = None
"""As a new value: the key goes."""
WIDTH: Final = 118


def edit(text: str, name: str, key: str, identifier: str, changes: Mapping[str, Any]) -> str:
    """`text` of the file `name` with `changes` in the entry `identifier` of the list `key`.

    `changes`: key of the entry → plain value, REMOVED to take it away; `outer.inner` reaches one level
    down. Raises CatalogError when the file has no such entry, or when it cannot be changed without
    touching anything else.
    """
    before = parse_yaml(text, name)
    expected = plain(before)
    (wanted,) = [e for e in expected.get(key, ()) if str(e.get("id")) == identifier] or [None]
    if wanted is None:
        raise CatalogError(f"{name}: no entry {identifier!r} under {key!r}")
    for path, value in changes.items():
        _put(wanted, path.split("."), value)
    for path, value in changes.items():
        node = _entry(text, name, key, identifier)
        text = _apply(text, node, path.split("."), value)
    if plain(parse_yaml(text, name)) != expected:
        raise CatalogError(f"{name}: {identifier}: {', '.join(changes)} cannot be changed alone; edit it by hand")
    return text


def _put(record: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        record = record.setdefault(part, {})
    if value is REMOVED:
        record.pop(path[-1], None)
    else:
        record[path[-1]] = value


def _entry(text: str, name: str, key: str, identifier: str) -> yaml.MappingNode:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    rows = next(value for k, value in root.value if k.value == key)
    for node in rows.value:
        if any(k.value == "id" and v.value == identifier for k, v in node.value):
            assert isinstance(node, yaml.MappingNode)
            return node
    raise CatalogError(f"{name}: no entry {identifier!r} under {key!r}")


def _apply(text: str, node: yaml.MappingNode, path: list[str], value: Any) -> str:
    held = next(((k, v) for k, v in node.value if k.value == path[0]), None)
    if len(path) > 1:
        if held is None:
            return _insert(text, node, path[0], {path[1]: value})
        assert isinstance(held[1], yaml.MappingNode)
        return _apply(text, held[1], path[1:], value)
    if held is None:
        return text if value is REMOVED else _insert(text, node, path[0], value)
    start, end = _span(text, *held)
    if value is not REMOVED:
        fresh = _dumped(value, node.start_mark.column, node.flow_style)
        if fresh.startswith("\n"):
            start = text.index(":", held[0].end_mark.index) + 1
        return text[:start] + fresh + text[end:]
    begin = held[0].start_mark.index
    if not node.flow_style:
        return text[: text.rindex("\n", 0, begin) + 1] + text[text.index("\n", end) + 1 :]
    comma = text.rindex(",", node.start_mark.index, begin)  # the id comes first: never removed
    return text[:comma] + text[end:]


def _span(text: str, key: yaml.Node, value: yaml.Node) -> tuple[int, int]:
    """Where the value stands. An alias has the marks of its anchor, somewhere above: then to the end of the line."""
    start, end = value.start_mark.index, value.end_mark.index
    if start < key.end_mark.index:
        start = text.index(":", key.end_mark.index) + 2
        end = text.index("\n", start)
    block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    while True:  # block values end where the next token begins: after the comments on what follows
        while end > start and text[end - 1] in " \n":
            end -= 1
        line = text.rfind("\n", 0, end) + 1
        if not block or line <= start or not text[line:end].lstrip().startswith("#"):
            return start, end
        end = line


def _insert(text: str, node: yaml.MappingNode, name: str, value: Any) -> str:
    """A new key after the last one."""
    last_key, last_value = node.value[-1]
    _, end = _span(text, last_key, last_value)
    column = node.start_mark.column
    if node.flow_style:
        return f"{text[:end]}, {name}: {_dumped(value, column, True)}{text[end:]}"
    line_end = text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end
    if isinstance(value, dict) and name == "field_provenance":
        inner = "".join(f"\n{' ' * (column + 2)}{k}: {_dumped(v, column + 2, True)}" for k, v in value.items())
        return f"{text[:line_end]}\n{' ' * column}{name}:{inner}{text[line_end:]}"
    fresh = _dumped(value, column, False)
    return f"{text[:line_end]}\n{' ' * column}{name}:{'' if fresh[:1] == chr(10) else ' '}{fresh}{text[line_end:]}"


def _dumped(value: Any, column: int, flow: bool) -> str:
    """`value` as it stands after `key: `; a list of mappings goes below, one a line."""
    if not flow and isinstance(value, list) and value and isinstance(value[0], dict):
        return "".join(f"\n{' ' * column}- {_flow(row, column + 2)}" for row in value)
    return _flow(value, column + 2)


def _flow(value: Any, column: int) -> str:
    if isinstance(value, float) and value >= 1e9:  # as people write them: 4.89e+12
        scale = 12 if value >= 1e11 else 9
        text = f"{value / 10**scale:.9g}"
        text = f"{text}{'' if '.' in text else '.0'}e+{scale}"
        if float(text) == value:
            return text
    whole = isinstance(value, dict | list)
    text = yaml.safe_dump(
        value if whole else [value],  # a list, so that a scalar is quoted as a flow collection needs it
        default_flow_style=True, sort_keys=False, allow_unicode=True, width=WIDTH - column if whole else 1 << 20,
    ).rstrip("\n")  # fmt: skip
    return text.replace("\n", "\n" + " " * column) if whole else text[1:-1]
