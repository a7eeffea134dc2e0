"""A JSON schema to an automaton of exactly the JSON texts that satisfy it, on one line.

Subset: object (properties in their order, required), array (items, minItems, maxItems), string (minLength,
maxLength), number, integer, boolean, null, enum, const, anyOf, type lists, `$ref` into `$defs`, and a schema without
type for any JSON. Other keywords that restrict values are refused by name. RFC 8259 is the grammar.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from planner.engine.automaton import Expr, Grammar
from planner.engine.params import RequestError

NOTES = frozenset({
    "title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs", "definitions", "deprecated",
    "readOnly", "writeOnly",
})  # fmt: skip
KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength"},
    "number": set(), "integer": set(), "boolean": set(), "null": set(),
}  # fmt: skip
MAX_REPEAT = 10_000
MAX_DEPTH = 32
MAX_DIGITS = 15
MAX_SCHEMA_CHARACTERS = 64 << 10
MAX_PROPERTIES = 256
FIELD = "response_format"


def compile_schema(schema: object) -> tuple[Grammar, Expr]:
    """The automaton of `schema` and its start. Raises RequestError for what is not in the subset."""
    try:
        size = len(json.dumps(schema))
        if size > MAX_SCHEMA_CHARACTERS:
            raise RequestError(f"the JSON schema has {size} characters; the limit is {MAX_SCHEMA_CHARACTERS}", FIELD)
        compiler = _Compiler(schema if isinstance(schema, dict) else {})
        return compiler.grammar, compiler.of(schema, 0)
    except RecursionError:
        raise RequestError("the JSON schema nests too deeply", FIELD) from None


class _Compiler:
    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        g = self.grammar = Grammar()
        digits = range(0x30, 0x3A)
        self.gap = g.optional(g.literal(b" "))
        tail = g.one_of(range(0x80, 0xC0))
        ascii_plain = [b for b in range(0x20, 0x80) if b not in (0x22, 0x5C)]
        hexadecimal = [*digits, *range(0x41, 0x47), *range(0x61, 0x67)]
        escape = g.sequence(
            g.literal(b"\\"),
            g.either(
                g.one_of(b'"\\/bfnrt'),
                # \uXXXX outside the surrogates
                g.sequence(g.literal(b"u"), g.one_of([*b"0123456789abcefABCEF"]), *[g.one_of(hexadecimal)] * 3),
                g.sequence(g.literal(b"u"), g.one_of(b"dD"), g.one_of(b"01234567"), *[g.one_of(hexadecimal)] * 2),
            ),
        )
        self.character = g.either(
            g.one_of(ascii_plain),
            escape,
            g.sequence(g.one_of(range(0xC2, 0xE0)), tail),
            g.sequence(g.literal(b"\xe0"), g.one_of(range(0xA0, 0xC0)), tail),
            g.sequence(g.one_of([*range(0xE1, 0xED), 0xEE, 0xEF]), tail, tail),
            g.sequence(g.literal(b"\xed"), g.one_of(range(0x80, 0xA0)), tail),
            g.sequence(g.literal(b"\xf0"), g.one_of(range(0x90, 0xC0)), tail, tail),
            g.sequence(g.one_of(range(0xF1, 0xF4)), tail, tail, tail),
            g.sequence(g.literal(b"\xf4"), g.one_of(range(0x80, 0x90)), tail, tail),
        )
        more = g.repeat(g.one_of(digits), 0, MAX_DIGITS - 1)
        whole = g.either(g.literal(b"0"), g.sequence(g.one_of(range(0x31, 0x3A)), more))
        self.integer = g.sequence(g.optional(g.literal(b"-")), whole)
        fraction = g.sequence(g.literal(b"."), g.repeat(g.one_of(digits), 1, MAX_DIGITS))
        exponent = g.sequence(g.one_of(b"eE"), g.optional(g.one_of(b"+-")), g.repeat(g.one_of(digits), 1, 2))
        self.number = g.sequence(self.integer, g.optional(fraction), g.optional(exponent))
        self.string = self.text(0, None)
        self.any = g.later("any", self._any, 1)

    def of(self, schema: object, depth: int) -> Expr:
        """The expression of one schema."""
        if schema is True or schema == {}:
            return self.any
        if not isinstance(schema, dict):
            raise RequestError("a JSON schema must be an object", FIELD)
        if depth > MAX_DEPTH:
            raise RequestError(f"the JSON schema nests deeper than {MAX_DEPTH}", FIELD)
        for keyword, make in (
            ("$ref", self._ref),
            ("enum", self._enum),
            ("const", self._const),
            ("anyOf", self._any_of),
        ):
            if keyword in schema:
                _refuse(schema.keys() - NOTES - {keyword, "type"}, f"beside {keyword}")
                return make(schema[keyword], depth)
        kinds = schema.get("type", "object" if "properties" in schema else None)
        if kinds is None:
            _refuse(schema.keys() - NOTES, "without a type")
            return self.any
        kinds = kinds if isinstance(kinds, list) else [kinds]
        unknown = [k for k in kinds if not isinstance(k, str) or k not in KEYWORDS]
        if unknown or not kinds:
            raise RequestError(f"JSON schema type {unknown or kinds} is not one of {', '.join(KEYWORDS)}", FIELD)
        _refuse(
            schema.keys() - NOTES - {"type"} - {w for k in kinds for w in KEYWORDS[k]}, f"of type {'/'.join(kinds)}"
        )
        return self.grammar.either(*(self._typed(kind, schema, depth) for kind in kinds))

    def text(self, least: int, most: int | None) -> Expr:
        quote = self.grammar.literal(b'"')
        return self.grammar.sequence(quote, self.grammar.repeat(self.character, least, most), quote)

    def _typed(self, kind: str, schema: dict[str, Any], depth: int) -> Expr:
        g = self.grammar
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(self.of(schema.get("items", True), depth + 1), *_bounds(schema, "minItems", "maxItems"))
        if kind == "string":
            return self.text(*_bounds(schema, "minLength", "maxLength"))
        if kind == "boolean":
            return g.either(g.literal(b"true"), g.literal(b"false"))
        return {"null": g.literal(b"null"), "integer": self.integer, "number": self.number}[kind]

    def _object(self, schema: dict[str, Any], depth: int) -> Expr:
        g = self.grammar
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise RequestError("JSON schema: properties must be an object and required a list", FIELD)
        unknown = [name for name in required if name not in properties]
        if unknown:
            raise RequestError(f"JSON schema: required {unknown[0]!r} is not among the properties", FIELD)
        if len(properties) > MAX_PROPERTIES:
            raise RequestError(f"JSON schema: {len(properties)} properties; the limit is {MAX_PROPERTIES}", FIELD)
        extra = schema.get("additionalProperties", True)
        if not properties and extra is not False:
            return self._map(self.of(extra, depth + 1))
        comma = g.sequence(g.literal(b","), self.gap)
        after, begin = g.empty, g.empty  # what may follow one property, and what may follow "{"
        for name, value in reversed(properties.items()):
            key = g.literal(json.dumps(name, ensure_ascii=False).encode() + b":")
            item = g.sequence(key, self.gap, self.of(value, depth + 1))
            here, later = g.sequence(item, after), g.sequence(comma, item, after)
            begin = here if name in required else g.either(here, begin)
            after = later if name in required else g.either(later, after)
        return g.sequence(g.literal(b"{"), begin, g.literal(b"}"))

    def _map(self, value: Expr) -> Expr:
        g = self.grammar
        pair = g.sequence(self.string, g.literal(b":"), self.gap, value)
        return self._list(b"{", pair, b"}", 0, None)

    def _array(self, item: Expr, least: int, most: int | None) -> Expr:
        return self._list(b"[", item, b"]", least, most)

    def _list(self, opening: bytes, item: Expr, closing: bytes, least: int, most: int | None) -> Expr:
        g = self.grammar
        rest = g.repeat(
            g.sequence(g.literal(b","), self.gap, item), max(least - 1, 0), None if most is None else most - 1
        )
        filled = g.empty if most == 0 else g.sequence(item, rest)
        inside = filled if least else g.optional(filled)
        return g.sequence(g.literal(opening), inside, g.literal(closing))

    def _any(self) -> Expr:
        g = self.grammar
        words = (g.literal(w) for w in (b"true", b"false", b"null"))
        return g.either(self.string, self.number, *words, self._map(self.any), self._array(self.any, 0, None))

    def _ref(self, reference: object, depth: int) -> Expr:
        parts = reference.split("/") if isinstance(reference, str) else []
        table = self.root.get(parts[1]) if len(parts) == 3 and parts[0] == "#" else None
        if not isinstance(table, dict) or parts[1] not in ("$defs", "definitions") or parts[2] not in table:
            raise RequestError(f"JSON schema: $ref {reference!r:.60} does not lead into #/$defs", FIELD)
        if parts[2] in _references(table[parts[2]], table, set()):
            raise RequestError(f"JSON schema: the recursive $ref {reference!r:.60} is not implemented", FIELD)
        return self.of(table[parts[2]], depth + 1)

    def _enum(self, values: object, _: int) -> Expr:
        if not isinstance(values, list) or not values:
            raise RequestError("JSON schema: enum must be a list with entries", FIELD)
        return self.grammar.either(*(self._const(value, 0) for value in values))

    def _const(self, value: object, _: int) -> Expr:
        return self.grammar.literal(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())

    def _any_of(self, choices: object, depth: int) -> Expr:
        if not isinstance(choices, list) or not choices:
            raise RequestError("JSON schema: anyOf must be a list with entries", FIELD)
        return self.grammar.either(*(self.of(choice, depth + 1) for choice in choices))


def _bounds(schema: dict[str, Any], low: str, high: str) -> tuple[int, int | None]:
    least, most = schema.get(low, 0), schema.get(high)
    for name, value in ((low, least), (high, most)):
        if value is not None and (type(value) is not int or not 0 <= value <= MAX_REPEAT):
            raise RequestError(f"JSON schema: {name} must be from 0 to {MAX_REPEAT}, got {value!r:.40}", FIELD)
    if most is not None and most < least:
        raise RequestError(f"JSON schema: {low} {least} is above {high} {most}", FIELD)
    return least, most


def _refuse(keywords: set[str], where: str) -> None:
    if keywords:
        raise RequestError(f"JSON schema keyword {sorted(keywords)[0]!r} {where} is not implemented", FIELD)


def _references(schema: object, table: dict[str, Any], seen: set[str]) -> set[str]:
    """Names in `table` that `schema` reaches by $ref."""
    for node in _nodes(schema):
        reference = node.get("$ref")
        name = reference.rsplit("/", 1)[-1] if isinstance(reference, str) else None
        if name is not None and name in table and name not in seen:
            seen.add(name)
            _references(table[name], table, seen)
    return seen


def _nodes(value: object) -> Iterator[dict[str, Any]]:
    stack = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, dict):
            yield top
        stack += top.values() if isinstance(top, dict) else top if isinstance(top, list) else []
