"""`planner explain`: why a plan is what it is."""

from __future__ import annotations

import sys

import typer

from planner.cli import options as opt
from planner.cli.emit import emit, text_width

EXAMPLES = ("planner explain out/plan.yaml",)


def explain(plan: opt.PlanArgument, output: opt.OutputOption = opt.Output.table) -> None:
    """Print the choices with their reasons, the decision trace and the refusals."""
    from planner import api
    from planner.report.layout import wrapped
    from planner.report.text import explanation

    held = api.load_plan(plan)

    def table(console: object) -> None:
        typer.echo(wrapped(explanation(held), text_width(sys.stdout)), nl=False)

    emit(
        output,
        lambda: {
            "reasons": [r.model_dump(mode="json") for r in held.best.reasons],
            "trace": [s.model_dump(mode="json") for s in held.trace],
            "rejected": [r.model_dump(mode="json") for r in held.rejected],
        },
        table,
    )
