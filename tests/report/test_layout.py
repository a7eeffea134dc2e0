"""Tables and text fit the width there is, and what is left out is said."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

import planner
from planner.answers import Comparison
from planner.report.layout import Column, print_columns, wrapped
from planner.report.terminal import print_comparison, print_fit, print_plan

WIDTHS = (60, 80, 100, 140)


def _printed(width: int, rows: list[tuple[str, ...]], columns: tuple[Column, ...]) -> list[str]:
    out = io.StringIO()
    print_columns(Console(file=out, width=width, highlight=False), columns, rows, complete="-o json has all")
    return out.getvalue().splitlines()


COLUMNS = (Column("name", loose=True), Column("first spare", spare=2), Column("second spare", spare=1), Column("kept"))


def test_a_wide_table_is_whole() -> None:
    lines = _printed(60, [("a", "bb", "cc", "dd")], COLUMNS)
    assert lines[0].split() == ["name", "first", "spare", "second", "spare", "kept"]
    assert len(lines) == 2


def test_a_narrow_table_goes_without_what_it_can_spare_and_says_so() -> None:
    lines = _printed(40, [("a" * 30, "b" * 12, "c" * 6, "d" * 6)], COLUMNS)
    text = "\n".join(lines)
    assert "not shown at this width: first spare (-o" in text
    assert "c" * 6 in text and "d" * 6 in text and "b" not in text.split("not shown")[0].replace("spare", "")


def test_where_no_table_fits_each_row_is_a_paragraph_and_no_number_is_cut() -> None:
    lines = _printed(24, [("a" * 30, "b" * 12, "123,456", "789,012")], COLUMNS)
    text = " ".join(line.strip() for line in lines)
    assert "second spare 123,456" in text and "kept 789,012" in text and "first spare bbbbbbbbbbbb" in text


def test_long_text_goes_over_lines_and_is_never_cut() -> None:
    lines = _printed(40, [("x" * 50, "1", "2", "3")], COLUMNS)
    assert "".join(lines).count("x") == 50
    assert "…" not in "".join(lines)


def test_hostile_text_is_text() -> None:
    assert "[red]boo[/red]" in "\n".join(_printed(80, [("[red]boo[/red]", "", "", "")], COLUMNS))


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_that_is_printed_is_wider_than_the_terminal_or_cut(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False)
    print_plan(console, planner.recommend(model="llama3-70b", gpus="2xA100").plan)
    print_fit(console, planner.fit("1xRTX-4090")[:20], 20)
    compared = planner.compare("llama3-8b", "1xA100", concurrency=128)
    assert isinstance(compared, Comparison)
    print_comparison(console, compared)
    for line in out.getvalue().splitlines():
        assert len(line.rstrip()) <= width, line
    assert "…" not in out.getvalue()


def test_published_figures_stand_beside_ours() -> None:
    out = io.StringIO()
    print_comparison(Console(file=out, width=140), planner.compare("llama3-8b", "1xA100", concurrency=128))
    text = out.getvalue()
    assert "vllm published" in text and "ollama ours" in text
    assert "4,200" in text and "cannot all hold at once" in text


def test_wrapped_text_keeps_its_indentation_and_commands_stay_whole() -> None:
    command = "   planner recommend --model llama3-70b --gpus 4xT4 --concurrency 32 --objective throughput"
    text = wrapped(f"1. {'word ' * 20}\n{command}\n     → {'more ' * 20}", 40)
    lines = text.split("\n")
    assert command in lines
    assert all(len(line) <= 40 for line in lines if line != command)
    assert lines[1].startswith("   word") and lines[-1].startswith("       more")
