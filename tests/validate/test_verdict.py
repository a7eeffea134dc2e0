"""A verdict counts what ran, and never takes a skipped check for a passed one."""

from __future__ import annotations

import pytest

from planner.errors import FormatError
from planner.validate.verdict import Check, Verdict, failed, from_problems, guarded, passed, skipped

GOOD, BAD, NONE = passed("a"), failed("b", "broken"), skipped("c", "no tool")


@pytest.mark.parametrize(
    ("checks", "status", "code"),
    [
        ((GOOD,), "passed", 0),
        ((GOOD, NONE), "passed", 0),
        ((NONE,), "skipped", 0),
        ((), "skipped", 0),
        ((GOOD, NONE, BAD), "failed", 1),
    ],
)
def test_status_and_exit_code(checks: tuple[Check, ...], status: str, code: int) -> None:
    verdict = Verdict("x", checks)
    assert (verdict.status, verdict.exit_code) == (status, code)
    assert verdict.to_dict()["counts"]["skipped"] == checks.count(NONE)
    assert [c["name"] for c in verdict.to_dict()["checks"]] == [c.name for c in checks]


def test_only_the_first_problems_are_told() -> None:
    check = from_problems("x", ["p1", "p2", "p2", "p3", "p4", "p5"], "good")
    assert check.status == "failed" and check.detail == "p1; p2; p3 (and 2 more)"
    assert from_problems("x", [], "good") == passed("x", "good")


def test_a_users_error_inside_a_check_fails_it() -> None:
    def damaged() -> Check:
        raise FormatError("line 3 is\nwrong")

    assert guarded("x", damaged) == failed("x", "line 3 is wrong")
    with pytest.raises(ZeroDivisionError):
        guarded("x", lambda: passed("x", str(1 // 0)))


def test_a_table_shows_every_check_and_no_control_character() -> None:
    from io import StringIO

    from rich.console import Console

    from planner.report.verdict import print_verdict

    out = StringIO()
    hostile = failed("d", "\x1b[2J\x1b]0;owned\x07[bold]text[/bold]")
    print_verdict(Console(file=out, width=120), Verdict("x", (GOOD, BAD, NONE, hostile)))
    text = out.getvalue()
    assert "\x1b" not in text and "\x07" not in text and "[bold]text[/bold]" in text
    assert "no tool" in text and text.count("skipped") == 2 and "failed: 1 passed, 2 failed, 1 skipped" in text
