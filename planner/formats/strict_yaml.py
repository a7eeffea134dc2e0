"""YAML as our own files use it: plain data, no dates, no merging, and every key once.

Knows no schema and no bound of size or depth.
"""

from __future__ import annotations

from typing import Any

from planner.errors import FormatError


class KeyProblemError(FormatError):
    """A mapping's key at `line` is no word, or `key` stands in it a second time."""

    def __init__(self, line: int, key: str | None = None) -> None:
        self.line, self.key = line, key
        super().__init__(f"line {line}: " + ("a key that is no word" if key is None else f"{key!r} stands there twice"))


def strict_loader(base: type[Any]) -> type[Any]:
    """A loader of PyYAML upon `base` (SafeLoader or CSafeLoader) that raises KeyProblemError."""

    class Loader(base):  # type: ignore[misc]  # which base depends on libyaml being there
        yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own class attribute
            first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":merge"))]
            for first, resolvers in base.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                line = key.start_mark.line + 1
                if key.id != "scalar":
                    raise KeyProblemError(line)
                if key.value in seen:
                    raise KeyProblemError(line, key.value)
                seen.add(key.value)
            mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
            return mapping

    return Loader
