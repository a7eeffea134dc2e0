"""`planner validate`: a plan, or the folder of its files, tried before it is deployed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import options as opt
from planner.cli.emit import emit

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLES = (
    "planner validate out",
    "planner validate out/plan.yaml --only lint --only simulate",
)


def validate(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan.yaml, or the folder that --save-dir made.")],
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="DEPTH", help="lint, simulate or smoke; may be repeated. Default: all."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="PLACE",
            help="A safetensors directory or GGUF of yours (up to 1B) in place of the twin.",
        ),
    ] = None,
    output: opt.OutputOption = opt.Output.table,
) -> None:
    """Check a plan's files with the real tools, its limits under its load, and a small twin of its model."""
    from planner import api

    verdict = api.validate(plan, only, checkpoint)

    def table(console: Console) -> None:
        from planner.report.verdict import print_verdict

        print_verdict(console, verdict)

    emit(output, verdict.to_dict, table)
    if verdict.exit_code:
        raise typer.Exit(verdict.exit_code)
