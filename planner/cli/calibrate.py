"""`planner calibrate`: what a deployment of yours measures, kept for later plans on the same device and engine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli import endpoint_options as endpoint
from planner.cli import options as opt
from planner.cli.emit import emit
from planner.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from planner.spec.local import LocalCorrection

_MAX_FILE_BYTES = 4 << 20

EXAMPLES = (
    "planner calibrate out/plan.yaml --url http://127.0.0.1:8000",
    "planner calibrate out/plan.yaml --from verdict.json --date 2026-11-24",
    "planner calibrate --list",
)


def calibrate(
    plan: Annotated[Path | None, typer.Argument(metavar="PLAN", help="The deployed plan.yaml, or its folder.")] = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Where it listens: it is probed under its load.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="What `planner probe --plan PLAN -o json` printed, instead."),
    ] = None,
    log: Annotated[
        Path | None, typer.Option("--log", metavar="FILE", help="vLLM's start-up log, for the memory.")
    ] = None,
    date: Annotated[
        str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="Day of the measurement; default today.")
    ] = None,
    requests: Annotated[
        int | None, typer.Option("--requests", metavar="N", min=2, help="Default: 3 per client.")
    ] = None,
    load_seconds: endpoint.LoadSeconds = 120.0,
    timeout: endpoint.Timeout = 120.0,
    key_variable: endpoint.KeyVariable = None,
    show: Annotated[bool, typer.Option("--list", help="Show what is kept, measure nothing.")] = False,
    gone: Annotated[
        str | None,
        typer.Option(
            "--remove", metavar="NAME", help="Forget a correction by name or its beginning (DEVICE), or `all`."
        ),
    ] = None,
    output: opt.OutputOption = opt.Output.table,
) -> None:
    """Measure a deployment and correct later estimates for its device and engine by it.

    Kept on this machine only, in PLANNER_DATA_DIR or the data folder of the user. Plans that use it say so.
    """
    from planner import api
    from planner.cli.probe import key_of, read_log, show_progress
    from planner.sources import local_calibration
    from planner.validate.calibrate import remove

    if show or gone is not None:
        if plan is not None or url is not None or file is not None or (show and gone is not None):
            raise UsageError("--list and --remove stand alone")
        _emit(output, local_calibration.read() if gone is None else remove(gone), "kept" if show else "forgotten")
        return
    if plan is None:
        raise UsageError("calibrate needs the deployed plan, e.g. planner calibrate plan.yaml --url http://host:8000")
    if file is not None:
        if log is not None:
            raise UsageError("--log goes to the probe whose answer --from reads")
        kept = api.calibrate(plan, url, measured=_measured(file), date=date)
    else:
        kept = api.calibrate(
            plan, url, date=date, key=key_of(key_variable), log=read_log(log), requests=requests,
            load_seconds=load_seconds, timeout_s=timeout, progress=show_progress if sys.stderr.isatty() else None,
        )  # fmt: skip
    _emit(output, (kept,), "kept")


def _measured(path: Path) -> dict[str, Any]:
    """A verdict as JSON. Raises UsageError in one line."""
    from planner.api import reading_failure
    from planner.sources.given import read_given

    try:
        text = read_given(path, _MAX_FILE_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--from {str(path)!a} cannot be read: {reading_failure(error)}") from None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"--from {str(path)!a} is not JSON; `planner probe --plan PLAN -o json` prints it") from None
    if not isinstance(data, dict):
        raise UsageError(f"--from {str(path)!a} is not what `planner probe --plan PLAN -o json` prints")
    return data


def _emit(output: opt.Output, corrections: tuple[LocalCorrection, ...], what: str) -> None:
    from planner.sources.local_calibration import store_path

    def table(console: Console) -> None:
        from planner.report.calibration import print_corrections

        print_corrections(console, corrections, f"{len(corrections)} {what}: {store_path()}")

    emit(output, lambda: [{"name": c.name, **c.model_dump(mode="json")} for c in corrections], table)
