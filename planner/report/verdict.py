"""A verdict as a table for a terminal. Computes nothing new."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from planner.validate.verdict import Verdict

STYLES = {"passed": "green", "failed": "bold red", "missed": "bold yellow", "skipped": "yellow"}


def print_verdict(console: Console, verdict: Verdict) -> None:
    """One row per check, then one line."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(verdict.subject), title_justify="left", expand=False)
    table.add_column("", no_wrap=True)
    table.add_column("check", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("detail", overflow="fold")
    before = ""
    for check in verdict.checks:
        if before and check.depth != before:
            table.add_section()
        table.add_row(
            Text(check.depth if check.depth != before else ""),
            Text(check.name),
            Text(check.status, STYLES[check.status]),
            Text(_printable(check.detail)),
        )
        before = check.depth
    console.print(table)
    console.print(Text(verdict.summary, STYLES[verdict.status]))


def _printable(text: str) -> str:
    """`text` without control characters: an endpoint's own words are in it."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
