"""plan.yaml: exact both ways, the same bytes again, and one clear line for a damaged file."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import FormatError
from planner.render import dump_plan, load_plan
from planner.render.plan_file import MAX_CHARACTERS
from planner.spec.plan import Plan

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
FLOATS = st.floats(allow_nan=False)


def test_every_plan_comes_back_exactly(any_plan: Plan) -> None:
    text = dump_plan(any_plan)
    again = load_plan(text)
    assert again == any_plan
    assert dump_plan(again) == text


@settings(max_examples=20, deadline=None)
@given(TEXT, TEXT, TEXT, FLOATS, st.dictionaries(TEXT, TEXT, max_size=3))
def test_whatever_a_plan_holds_comes_back(
    make_plan: Any, model: str, line: str, path: str, score: float, figures: dict[str, str]
) -> None:
    plan: Plan = make_plan("vllm", "cuda", model={"id": model, "checkpoint": path}, cautions=(line, ""))
    plan = plan.model_copy(update={"best": plan.best.model_copy(update={"score": score})})
    text = dump_plan(plan)
    assert load_plan(text) == plan
    assert dump_plan(load_plan(text)) == text


@given(FLOATS)
def test_floats_are_read_alike_by_every_yaml(value: float) -> None:
    from planner.render.plan_file import _number

    text = _number(value)
    assert yaml.safe_load(text) == value and isinstance(yaml.safe_load(text), float)
    assert float(text.replace(".inf", "inf")) == value


@pytest.mark.parametrize(("value", "text"), [(3.12e14, "3.12e+14"), (0.9, "0.9"), (8.0, "8.0"), (1e22, "1.0e+22")])
def test_floats_are_short(value: float, text: str) -> None:
    from planner.render.plan_file import _number

    assert _number(value) == text


def test_it_reads_from_top_to_bottom(make_plan: Any) -> None:
    keys = list(yaml.safe_load(dump_plan(make_plan())))
    assert keys[:4] == ["schema_version", "planner_version", "request", "best"]
    assert keys[-1] == "resolved"


def test_words_that_yaml_would_take_for_something_else_are_quoted(make_plan: Any) -> None:
    plan = make_plan("vllm", "cuda", model={"served_name": "on", "license": "1e3", "revision": "2026-01-01"})
    assert load_plan(dump_plan(plan)).best.model.served_name == "on"
    text = dump_plan(plan)
    assert 'served_name: "on"' in text and 'license: "1e3"' in text and 'revision: "2026-01-01"' in text


def test_a_date_without_quotes_is_a_string(make_plan: Any) -> None:
    text = dump_plan(make_plan())
    assert load_plan(text.replace('date: "2026-11-24"', "date: 2026-11-24")) == load_plan(text)


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a plan"),
        ("[1, 2]", "not a plan"),
        ("schema_version: 1\n", "not a plan"),
        ("best: {}\nresolved: {}\nschema_version: 99\n", "schema_version 99"),
        ("best: {}\nresolved: {}\nschema_version: 1\n", "damaged at planner_version"),
        ("best: [1,\n", "not valid YAML: line 2"),
        ("a: \x00", "not valid YAML"),
        (BOMB, "alias at line 1"),
        ("best: !!python/object/apply:os.system [id]\n", "YAML tag at line 1"),
        ("[" * 100 + "]" * 100, "nested deeper"),
        ("best: 1\nbest: 2\n", "'best' twice at line 2"),
        ("? [a, b]\n: 1\n", "no word at line 1"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("\ud800", "not valid YAML"),
    ],
    ids=range(14),
)
def test_damage_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        load_plan(text)
    assert "\n" not in str(caught.value)


def test_a_huge_file_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(FormatError, match="the limit is"):
        load_plan("a" * (MAX_CHARACTERS + 1))


def test_damage_names_the_field(make_plan: Any) -> None:
    text = dump_plan(make_plan()).replace("max_num_seqs: 64", "max_num_seqs: many")
    with pytest.raises(FormatError, match=r"best\.limits\.max_num_seqs"):
        load_plan(text)


def test_an_unknown_field_is_refused(make_plan: Any) -> None:
    with pytest.raises(FormatError, match="damaged at surprise"):
        load_plan(dump_plan(make_plan()) + "surprise: 1\n")
