"""JSON schemas as automata: exactly the valid texts are accepted, and what is not in the subset is refused by name."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.engine.automaton import UNREACHABLE
from planner.engine.constrained import Constraint, TokenTrie
from planner.engine.json_grammar import compile_schema
from planner.engine.params import RequestError


def accepts(schema: dict[str, Any], text: str | bytes) -> bool:
    grammar, state = compile_schema(schema)
    for byte in text.encode() if isinstance(text, str) else text:
        state = grammar.step(state, byte)
    return state.accepts


OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {}, "c": {"const": 1}}, "required": ["b"]}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, ["0", "-7", "120"], ["", "01", "1.0", "-", "+1", "1e3", " 1"]),
        ({"type": "number"}, ["0", "-0.5", "1e9", "2.5E-3"], ["", ".5", "1.", "1e", "NaN", "00"]),
        ({"type": "boolean"}, ["true", "false"], ["True", "tru", "1"]),
        ({"type": "null"}, ["null"], ["nul", ""]),
        ({"type": "string"}, ['""', '"é€😀"', r'"\n\u00e9\""'], ['"', '"\n"', r'"\x"', '"a', r'"\ud800"']),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', '"€€€"', r'"\n\n"'], ['"a"', '"abcd"']),
        ({"enum": ["x", 2, None, [1]]}, ['"x"', "2", "null", "[1]"], ["x", "3", "1"]),
        (OBJECT, ['{"b":1}', '{"a":2, "b": [],"c":1}', '{"b":{},"c":1}'],
         ["{}", '{"b":1,}', '{"b":1,"a":2}', '{"a":1}']),
        ({"type": "array", "items": {"type": "null"}, "minItems": 1, "maxItems": 2}, ["[null]", "[null, null]"],
         ["[]", "[null,]", "[null,null,null]"]),
        ({"type": "array", "maxItems": 0}, ["[]"], ["[1]"]),
        ({"type": "object"}, ["{}", '{"x":[1,{"y":null}]}'], ["[]", "{1:2}", '{"x":}']),
        ({"type": "object", "additionalProperties": {"type": "boolean"}}, ['{"k":true}'], ['{"k":1}']),
        ({"type": "object", "properties": {}, "additionalProperties": False}, ["{}"], ['{"k":1}']),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, ["null", "5"], ["true"]),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}, ["5"], ['"5"']),
        ({}, ["1", "[[[]]]", '{"a":"b"}'], ["", "[", "a"]),
    ],
    ids=str,
)  # fmt: skip
def test_valid_texts_and_no_others_are_accepted(schema: dict[str, Any], good: list[str], bad: list[str]) -> None:
    assert [t for t in good if not accepts(schema, t)] == []
    assert [t for t in bad if accepts(schema, t)] == []


@pytest.mark.parametrize("text", [b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x82"'])
def test_strings_are_valid_utf8(text: bytes) -> None:
    assert not accepts({"type": "string"}, text)


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "string", "pattern": "a"}, "pattern"),
        ({"type": "number", "minimum": 0}, "minimum"),
        ({"allOf": []}, "allOf"),
        ({"type": "frob"}, "frob"),
        ({"type": "string", "format": "date"}, "format"),
        ({"type": "object", "properties": {"a": {"oneOf": []}}}, "oneOf"),
        ({"type": "object", "required": ["x"], "properties": {}}, "'x'"),
        ({"$ref": "#/$defs/none"}, "none"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}}, "recursive"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "above"),
        ({"type": "string", "maxLength": -1}, "maxLength"),
        ({"type": "array", "items": 3}, "must be an object"),
        ({"enum": []}, "enum"),
        ({"enum": ["x" * 70_000]}, "limit is 65536"),
        ({"type": "object", "properties": {str(i): {} for i in range(300)}}, "limit is 256"),
    ],
    ids=str,
)
def test_what_is_not_in_the_subset_is_refused_by_name(schema: dict[str, Any], named: str) -> None:
    with pytest.raises(RequestError, match=named):
        compile_schema(schema)


LEAVES = st.sampled_from(
    [{"type": "integer"}, {"type": "string"}, {"type": "null"}, {"enum": ["é", 1]}, {"type": "number"}]
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda i: {"type": "array", "items": i, "maxItems": 3}, inner),
        st.builds(
            lambda p, r: {
                "type": "object",
                "properties": p,
                "required": [k for k in p if k in r],
                "additionalProperties": False,
            },
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            st.sets(st.sampled_from("abc")),
        ),
    ),
    max_leaves=6,
)
VOCABULARY = [bytes([b]) for b in range(256)] + [b'{"', b'":', b"true", b'", "', "é".encode(), b""]
TRIE = TokenTrie(VOCABULARY)


@settings(max_examples=60, deadline=None)
@given(schema=SCHEMAS, seed=st.integers(0, 999))
def test_any_walk_ends_in_a_valid_text_within_the_budget(schema: dict[str, Any], seed: int) -> None:
    choose = random.Random(seed)
    grammar, start = compile_schema(schema)
    assert start.shortest < UNREACHABLE
    constraint = Constraint(grammar, start, TRIE, VOCABULARY)
    left = start.shortest + choose.randrange(30)
    text = b""
    while not constraint.finished and not (constraint.accepts and choose.random() < 0.3):
        tokens = constraint.allowed(left)
        if left == 0 or not len(tokens):
            break
        token = int(choose.choice(list(tokens)))
        constraint.advance(token)
        text, left = text + VOCABULARY[token], left - 1
    assert constraint.accepts and left >= 0
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(json.loads(text), schema)
