"""PLAN.md says what was planned, and only lists what was written."""

from __future__ import annotations

from typing import Any

import pytest
from markdown_it import MarkdownIt

from planner.render import render, targets
from planner.spec.plan import Plan


def tables(text: str) -> list[list[list[str]]]:
    """Rows of cells of each table, as plain text."""
    found: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and found and token.level >= 3 and token.children is not None:
            found[-1][-1].append("".join(child.content for child in token.children))
    return found


def headings(text: str) -> list[str]:
    return [line[3:] for line in text.splitlines() if line.startswith("## ")]


def test_it_has_its_chapters(any_plan: Plan) -> None:
    assert headings(render(any_plan)["PLAN.md"]) == [
        "Why",
        "Does it fit",
        "Limits that every file carries",
        "How fast",
        "Assumed",
        "Mind",
        "Files",
    ]


def test_the_ledger_is_whole(any_plan: Plan) -> None:
    ledger = next(t for t in tables(render(any_plan)["PLAN.md"]) if t[0][:2] == ["item", "memory"])
    rows = any_plan.best.memory.rows
    assert [row[0] for row in ledger[1:-1]] == [row.item for row in rows]
    assert ledger[-1][:2] == ["total", "80.00 GiB"]
    assert all(len(row) == 5 for row in ledger)


def test_figures_come_with_their_band(make_plan: Any) -> None:
    figures = next(t for t in tables(render(make_plan())["PLAN.md"]) if t[0][0] == "figure")
    rows = {row[0]: row[1:] for row in figures[1:]}
    assert rows["TTFT p99"] == ["104 (83.2 – 130) ms", "fitted, n = 12"]
    assert rows["Output"] == ["2,103 (1,683 – 2,629) tokens/s", "fitted, n = 12"]


def listed(files: dict[str, str]) -> set[str]:
    """The names in the table of files, folders without their slash."""
    table = next(t for t in tables(files["PLAN.md"]) if t[0] == ["file", "command"])
    return {name.rstrip("/") for row in table[1:] for name in row[0].split(", ")}


@pytest.mark.parametrize("slugs", [["docker"], ["helm", "kubernetes"], [], None])
def test_it_lists_the_files_that_are_there(any_plan: Plan, slugs: list[str] | None) -> None:
    if slugs and any(target.supports(any_plan) for target in targets() if target.slug in slugs):
        pytest.skip("refused for this plan")
    files = render(any_plan, slugs)
    assert listed(files) == {path.split("/")[0] for path in files}


def files_said_and_written(plan: Plan) -> None:
    always = {path for target in targets() if target.always for path in target.paths(plan)}
    for target in targets():
        if target.supports(plan) is None:
            files = render(plan, [target.slug])
            assert set(target.paths(plan)) | always == set(files), target.slug
            assert listed(files) == {path.split("/")[0] for path in files}, target.slug


def test_every_target_says_which_files_it_writes(any_plan: Plan) -> None:
    files_said_and_written(any_plan)


@pytest.mark.parametrize(
    "parts",
    [
        {"choice": {"plugin": "vllm-bnb-plugin"}, "quantization": "bnb-nf4"},
        {"quantization": "awq", "model": {"checkpoint": "./Llama-3.1-8B-Instruct-awq"}},
        {"tensor": 8, "parallelism": {"pipeline": 2}, "machine": {"devices_per_node": 8}},
        {"request": {"site": {"registry": "mirror.example.org", "hub": False}}},
    ],
    ids=["plugin", "made", "two nodes", "closed site"],
)
def test_every_target_says_what_a_special_plan_adds(make_plan: Any, parts: dict[str, Any]) -> None:
    files_said_and_written(make_plan("vllm", "cuda", **parts))


def test_it_says_why_a_file_is_missing(make_plan: Any) -> None:
    text = render(make_plan("ollama", "metal"))["PLAN.md"]
    assert text.count("no access to the GPU") == 4


def test_an_infeasible_configuration_is_said(make_plan: Any) -> None:
    plan = make_plan()
    memory = plan.best.memory.model_copy(update={"fits": False, "shortfall_bytes": 3 * 2**30})
    plan = plan.model_copy(update={"best": plan.best.model_copy(update={"memory": memory, "performance": None})})
    text = render(plan)["PLAN.md"]
    assert "It does not fit: 3.00 GiB are missing" in text and "No serving figures were estimated." in text


def test_alternatives_stand_beside_the_choice(make_plan: Any) -> None:
    plan = make_plan()
    text = render(plan.model_copy(update={"alternatives": (make_plan("tgi", "cuda").best,)}))["PLAN.md"]
    assert next(t for t in tables(text) if t[0][0] == "engine")[1][0] == "tgi 3.3.7"


def test_a_hostile_name_is_text_in_every_place(make_plan: Any) -> None:
    name = "<script>x</script> | [a](http://b) `c` **d**\n# e"
    text = render(make_plan("vllm", "cuda", model={"id": name, "checkpoint": name, "license": name}))["PLAN.md"]
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert "<script" not in html and "<a " not in html and "\n# e" not in text
    assert html.count("<h1>") == 1


def test_replicas_of_one_host_have_a_port_each(make_plan: Any) -> None:
    plan = make_plan("vllm", "cuda", replicas=3)
    assert "8000 to 8002" in render(plan)["PLAN.md"]
    assert "a port of its own" not in render(plan, ["kubernetes"])["PLAN.md"]
