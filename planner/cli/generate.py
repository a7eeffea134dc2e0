"""`planner generate`: a plan's files, for its own targets or for one asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from planner.cli import options as opt
from planner.cli.emit import emit, note
from planner.errors import UsageError


def generate(
    plan: Annotated[Path | None, typer.Argument(help="A plan.yaml, or the folder that holds one.")] = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", "-t", help="A target's slug; several may be given.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Explain the targets.")] = False,
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

    def table(console: object) -> None:
        width = max(len(t.slug) for t in found)
        for t in found:
            shown = dict.fromkeys(name if "/" not in name else name.split("/")[0] + "/" for name in t.files)
            typer.echo(f"{t.slug:<{width}}  {t.title} ({', '.join(shown)})")

    emit(output, lambda: [{"slug": t.slug, "title": t.title, "files": list(t.files)} for t in found], table)
