"""`planner generate`: a plan's files, for its own targets or for one asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import options as opt
from planner.cli.emit import emit, note
from planner.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLES = (
    "planner generate out/plan.yaml --target kserve",
    "planner generate out --target helm --target keda --save-dir deploy",
    "planner generate --list",
)


def generate(
    plan: Annotated[
        Path | None, typer.Argument(metavar="PLAN", help="A plan.yaml, or the folder that holds one.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            "-t",
            metavar="SLUG",
            help="A target of --list; may be repeated. Default: all that suit the plan.",
        ),
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the targets and what each writes.")] = False,
    save_dir: opt.SaveDir = None,
    output: opt.OutputOption = opt.Output.table,
) -> None:
    """Render the files of a plan; without --save-dir they are printed."""
    if listing:
        _list_targets(output)
        return
    if plan is None:
        raise UsageError("generate needs a plan, e.g. `planner generate out/plan.yaml --target kubernetes`")
    from planner import api

    files = api.generate(plan, target)
    if save_dir is not None:
        from planner.render.write import save

        paths = save(files, save_dir)
        note(f"{len(paths)} files written to {save_dir}")
        return
    emit(output, lambda: files, lambda console: _print_files(files))


def _print_files(files: dict[str, str]) -> None:
    for name, text in files.items():
        typer.echo(f"# ---- {name}")
        typer.echo(text)


def _list_targets(output: opt.Output) -> None:
    from planner.render import targets

    found = targets()

    def table(console: Console) -> None:
        from planner.report.layout import Column, print_columns

        body = [
            (t.slug, t.title, ", ".join(dict.fromkeys(n if "/" not in n else n.split("/")[0] + "/" for n in t.files)))
            for t in found
        ]
        print_columns(console, (Column("target"), Column("what", loose=True), Column("files", loose=True)), body)

    emit(output, lambda: [{"slug": t.slug, "title": t.title, "files": list(t.files)} for t in found], table)
