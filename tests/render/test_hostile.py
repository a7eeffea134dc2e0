"""A hostile value stays in its place in every file of every target.

Each target is rendered twice, with a harmless value and with a hostile one. What the language's own parser reads
from the second must be the first with the one value put for the other: no key, word, line or file more. A target
may refuse a value instead, with a UsageError.
"""

from __future__ import annotations

import ast
import csv
import json
import plistlib
import re
import shlex
from functools import cache
from typing import Any

import pytest
import yaml
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from planner.errors import UsageError
from planner.render import names, targets
from planner.render.quoting import printable
from planner.sources.recipes import made_path

HARMLESS = "Harm Less But Long Enough That Names Cut It"
"""Its name differs with the length that an object allows, as a long hostile value's does."""
HOSTILE = st.one_of(
    st.sampled_from(
        [
            "'\"`$(touch x)`",
            '"; touch x; "',
            "a'; touch x; '",
            "${HOME}$(id)",
            "{{ .Release.Name }}{{7*7}}",
            "{% raw %}x",
            "x: {y: [&a *a !!python/object:os.system]}",
            "a\nkind: Secret\n---\nb",
            "a\n#!/bin/sh\ntouch x",
            "../../../etc/passwd",
            "..\\..\\x",
            "x # y: z",
            "%n %s %%i",
            "<!-- --><x/>&lt;]]>",
            "| pipe > fold - dash",
            "~ null true 0x10 1e3",
            "EOF\nEOF",
            "‘’‚‛“”",
            "\u202e\u2028é漢😀",
        ]
    ),
    st.text(alphabet="'\"\\`$(){}[]<>|&;#!*?~%:,@ \n\t/.-=ab1é", min_size=1, max_size=30),
).filter(lambda text: "$$" not in text and bool(text.strip()) and not text.startswith("-"))
TWO_NODES = {"tensor": 8, "parallelism": {"pipeline": 2}, "machine": {"devices_per_node": 8}}
AWQ = {"quantization": "awq", "model": {"checkpoint": made_path("meta-llama/Llama-3.1-8B-Instruct", "awq")}}
PLANS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vllm": ("vllm", "cuda", {}),
    "vllm-two-nodes": ("vllm", "cuda", TWO_NODES),
    "vllm-made": ("vllm", "cuda", AWQ),
    "vllm-plugin": ("vllm", "cuda", {"choice": {"plugin": "vllm-bnb-plugin"}}),
    "tgi": ("tgi", "cuda", {}),
    "ollama": ("ollama", "cuda", {}),
    "ollama-metal": ("ollama", "metal", {}),
    "llamacpp": ("llamacpp", "cuda", {}),
}
FIELDS = (("served_name", "revision", "license"), ("checkpoint",), ("id",), ("ca_bundle",))
"""Filled together: a chart takes any served name, but refuses a checkpoint that is no plain repository."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def with_value(make_plan: Any, case: str, fields: tuple[str, ...], value: str) -> Any:
    engine, platform, parts = PLANS[case]
    if fields == ("ca_bundle",):
        site = {"registry": "mirror.example:5000/x", "ca_bundle": f"/{value}"}
        return make_plan(engine, platform, **parts, request={"site": site})
    # a repository: a path of this machine is another kind of plan
    values = {field: f"o/{value}" if field in ("checkpoint", "id") else value for field in fields}
    model, spec = {**parts.get("model", {}), **values}, {"id": values["id"]} if "id" in fields else {}
    return make_plan(engine, platform, **{**parts, "model": model, "spec": spec})


@cache
def rendered(make_plan: Any, case: str, fields: tuple[str, ...], value: str) -> dict[str, dict[str, str]]:
    """Slug → files; a target that refuses the value has none."""
    found: dict[str, dict[str, str]] = {}
    try:
        plan = with_value(make_plan, case, fields, value)
    except ValidationError:  # a path is one line
        return found
    for target in targets():
        try:
            if target.supports(plan) is None:
                found[target.slug] = target.render(plan, (target.slug,))
        except UsageError:
            continue
    return found


def shape(path: str, text: str) -> Any:
    """The parsed content of a file: its structure with every string in it."""
    name = path.rsplit("/", 1)[-1]
    if path.startswith("helm/templates/") or name == "values.schema.json":
        return text
    if name.endswith(".json"):
        return unfolded(json.loads(text))
    if name.endswith(".yaml"):
        documents = list(yaml.load_all(text, Loader=LOADER))
        return [d if d.get("kind") == "ConfigMap" else unfolded(d) for d in documents]
    if name.endswith(".sh"):
        return [unfolded(word) for word in shlex.split(text, comments=True)]
    if name.endswith(".py"):
        tree = ast.parse(text)
        kinds = [type(node).__name__ for node in ast.walk(tree)]
        return kinds, [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    if name.endswith(".plist"):
        return plistlib.loads(text.encode())
    if name.endswith(".ps1"):
        quotes = "'\u2018\u2019\u201a\u201b"
        literals = re.findall(f"'((?:[^{quotes}]|[{quotes}]{{2}})*)'", without_comments(text))
        return [re.sub(rf"([{quotes}])\1", r"\1", literal) for literal in literals], text.count("\n")
    if name.endswith(".service"):
        return [line.partition("=")[0] for line in text.split("\n") if not line.startswith(("#", "  "))]
    return text.count("\n")


def without_comments(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))


def unfolded(value: Any) -> Any:
    """JSON and YAML that stand in a string are read too, and a PromQL matcher loses its quotes."""
    if isinstance(value, dict):
        # a digest of all values is another one for other values
        return {key: unfolded(item) for key, item in value.items() if key != "checksum/config"}
    if isinstance(value, list):
        return [unfolded(item) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith("type="):
        return next(csv.reader([value]))
    if document := re.fullmatch(r"(\w+=)?(\{\".*\})", value, re.DOTALL):
        try:
            return [document[1], unfolded(json.loads(document[2]))]
        except ValueError:
            return value
    if value.startswith("applications:\n"):
        return unfolded(yaml.safe_load(value))
    matcher = re.compile(r'model_name="((?:[^"\\]|\\.)*)"')
    escape = re.compile(r"\\(U[0-9a-f]{8}|.)")
    plain = matcher.sub(
        lambda found: (
            "model_name=" + escape.sub(lambda e: chr(int(e[1][1:], 16)) if e[1][0] == "U" else e[1], found[1])
        ),
        value,
    )
    return plain.replace("$$", "$")


def exchanged(value: Any, pairs: tuple[tuple[str, str], ...]) -> Any:
    """`value` with each first of `pairs` replaced by its second, in every string."""
    if isinstance(value, dict):
        return {exchanged(key, pairs): exchanged(item, pairs) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [exchanged(item, pairs) for item in value]
    if isinstance(value, str):
        for old, new in pairs:
            value = value.replace(old, new)
    return value


@pytest.mark.parametrize("fields", FIELDS, ids="-".join)
@pytest.mark.parametrize("case", PLANS)
@settings(max_examples=4, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(value=HOSTILE)
def test_no_value_leaves_its_place(make_plan: Any, case: str, fields: tuple[str, ...], value: str) -> None:
    value = value.strip()
    assume(case != "tgi" or re.search("[^A-Za-z0-9@%+=:,./_-]", value))  # a plain word starts TGI's own entry script
    harmless, hostile = (rendered(make_plan, case, fields, text) for text in (HARMLESS, value))
    # object names are made of the value: harmless by construction, and put side by side here
    slugs = tuple((names.slug(HARMLESS, limit), names.slug(value, limit)) for limit in (40, 32))
    made = tuple(
        (
            str(made_path(f"o/{HARMLESS}", kind)).removeprefix("./"),
            str(made_path(f"o/{value}", kind)).removeprefix("./"),
        )
        for kind in ("awq", "gguf:Q4_K_M")
    )
    for slug, files in hostile.items():
        if slug not in harmless:
            continue  # a plain name that the harmless one, which has a space, is not
        assert set(files) == set(harmless[slug]), slug
        for path, text in files.items():
            expected = exchanged(shape(path, harmless[slug][path]), (*made, *slugs, (HARMLESS, value)))
            ours = exchanged(shape(path, text), ())
            assert ours == expected or printable_equal(ours, expected, value), f"{slug}/{path}"


def printable_equal(ours: Any, expected: Any, value: str) -> bool:
    """The same, where a text for people shows control characters as escapes."""
    return bool(ours == exchanged(expected, ((value, printable(value)),)))


def test_no_target_is_left_out(make_plan: Any) -> None:
    """NVIDIA's two start an image of a fixed name; the plans here have none (see test_managed.py)."""
    covered = {slug for case in PLANS for f in FIELDS for slug in rendered(make_plan, case, f, "plain")}
    assert {target.slug for target in targets()} - covered == {"nim", "nim-operator"}
