"""`planner accuracy`: how far our figures are off, on every measured row that ships."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli import options as opt
from planner.cli.emit import emit

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLES = (
    "planner accuracy",
    "planner accuracy --check -o json",
)


def accuracy(
    markdown: Annotated[bool, typer.Option("--markdown", help="The page docs/accuracy.md.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit 1 when a slice is worse than its floor.")] = False,
    output: opt.OutputOption = opt.Output.table,
) -> None:
    """Error per metric, engine, device class and format: fitted and held out, beside the targets."""
    from planner import api

    report = api.accuracy()
    if markdown:
        from planner.report.accuracy import markdown as page

        sys.stdout.write(page(report))
    else:

        def table(console: Console) -> None:
            from planner.report.accuracy import print_accuracy

            print_accuracy(console, report)

        def data() -> dict[str, Any]:
            return report.to_dict()

        emit(output, data, table)
    if check:
        from planner.sources.catalog import load
        from planner.validate.accuracy import floors

        breaches = report.breaches(floors(load()))
        for breach in breaches:
            sys.stderr.write(f"{breach}\n")
        if breaches:
            raise typer.Exit(1)
