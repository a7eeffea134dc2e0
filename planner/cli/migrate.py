"""`planner migrate`: from a prototype on Ollama to production on vLLM, both plans and what the client changes."""

from __future__ import annotations

from typing import Annotated

import typer

from planner.cli import options as opt
from planner.cli.emit import emit, note

EXAMPLES = ("planner migrate out/plan.yaml --gpus 2xH100 --save-dir production",)


def migrate(
    plan: opt.PlanArgument,
    gpus: Annotated[
        str | None,
        typer.Option(
            "--gpus", metavar="MACHINE", help="The other side's machine, e.g. 2xH100; left out, the plan's own."
        ),
    ] = None,
    ram: opt.Ram = None,
    quantization: opt.Quantization = None,
    save_dir: opt.SaveDir = None,
    offline: opt.Offline = False,
    output: opt.OutputOption = opt.Output.table,
) -> None:
    """Plan the other side of PLAN (vLLM for an Ollama plan, Ollama for a vLLM plan) and write MIGRATE.md.

    Without --save-dir the document is printed; with it, both sides' files are written beside it.
    """
    from planner import api

    files = api.migrate(plan, gpus=gpus, ram=ram, quantization=quantization)
    if save_dir is not None:
        from planner.render.write import save

        paths = save(files, save_dir)
        note(f"{len(paths)} files written to {save_dir}")
        return
    emit(output, lambda: files, lambda console: typer.echo(files["MIGRATE.md"], nl=False))
