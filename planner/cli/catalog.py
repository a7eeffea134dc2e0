"""`planner catalog check|refresh`: what is wrong with the data files, and what newer sources say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import options as opt
from planner.cli.emit import emit

if TYPE_CHECKING:
    from rich.console import Console

catalog = typer.Typer(help="The data files: check them, refresh them (for maintainers).", no_args_is_help=True)

Root = Annotated[
    Path | None,
    typer.Option("--root", help="A folder with hardware/ and catalog/. Default: this installation's."),
]
MaxAge = Annotated[
    int | None, typer.Option("--max-age-days", help="Facts older than this are findings too. Default: any age.")
]


@catalog.command("check")
def check(root: Root = None, max_age_days: MaxAge = None, output: opt.OutputOption = opt.Output.table) -> None:
    """Validate every data file: schema, ranges, order in families, names, sources, dates, parameter counts.

    Exit 0 with nothing found, 1 with a list of findings, 2 for a wrong request.
    """
    from planner.upkeep.check import check as run

    audit = run(root, max_age_days=max_age_days)

    def table(console: Console) -> None:
        from planner.report.upkeep import print_audit

        print_audit(console, audit)

    emit(output, audit.to_dict, table)
    if audit.findings:
        raise typer.Exit(1)
