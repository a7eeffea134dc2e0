"""`planner probe`: a live endpoint against what its clients rely on and what its plan says."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import endpoint_options as endpoint
from planner.cli import options as opt
from planner.cli.emit import emit
from planner.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

_MOST_LOG_BYTES = 64 << 20
"""Of a log, its beginning: a start-up says all that is looked for in its first megabytes."""
EXAMPLES = (
    "planner probe --url http://127.0.0.1:8000 --plan out/plan.yaml",
    "planner probe --url http://127.0.0.1:11434 --no-load",
)


def probe(
    url: Annotated[str, typer.Option("--url", metavar="URL", help="Where it listens, e.g. http://localhost:8000.")],
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="PLAN", help="A plan.yaml, or the folder that holds one.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Name to ask for; default: the plan's, or the first listed.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option("--log", metavar="FILE", help="vLLM's start-up log, to compare memory.")
    ] = None,
    load: Annotated[bool, typer.Option("--load/--no-load", help="Put load on it.")] = True,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", "-c", metavar="N", min=1, help="Clients at once; default: the plan's, or 4."),
    ] = None,
    requests: Annotated[
        int | None, typer.Option("--requests", metavar="N", min=1, help="Default: 3 per client.")
    ] = None,
    load_seconds: endpoint.LoadSeconds = 120.0,
    timeout: endpoint.Timeout = 120.0,
    key_variable: endpoint.KeyVariable = None,
    output: opt.OutputOption = opt.Output.table,
) -> None:
    """Ask an endpoint everything a client relies on, then load it as planned; actual figures beside the plan's."""
    from planner import api

    text = read_log(log)
    verdict = api.probe(
        url, plan, model=model, key=key_of(key_variable), log=text, load=load, concurrency=concurrency,
        requests=requests, load_seconds=load_seconds, timeout_s=timeout,
        progress=show_progress if sys.stderr.isatty() else None,
    )  # fmt: skip

    def table(console: Console) -> None:
        from planner.report.verdict import print_verdict

        print_verdict(console, verdict)

    emit(output, verdict.to_dict, table)
    if verdict.exit_code:
        raise typer.Exit(verdict.exit_code)


def read_log(log: Path | None) -> str | None:
    """The text of a start-up log. Raises UsageError."""
    try:
        if log is None:
            return None
        with log.open("rb") as file:
            return file.read(_MOST_LOG_BYTES).decode("utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"--log {str(log)!a} cannot be read: {error.strerror}") from None


def key_of(variable: str | None) -> str | None:
    """The key in `variable`. No key is sent unless its variable is named: the endpoint may be anybody's."""
    if variable is None:
        return None
    if not os.environ.get(variable):
        raise UsageError(f"--api-key-env {variable!a}: the environment has no such variable")
    return os.environ[variable]


def show_progress(done: int, total: int) -> None:
    """A bar on stderr, erased when full."""
    filled = 30 * done // total
    sys.stderr.write(f"\r{'█' * filled}{'░' * (30 - filled)} {done}/{total} requests")
    if done == total:
        sys.stderr.write("\r\x1b[K")
    sys.stderr.flush()
