"""The `planner` command: its verbs, and what an error looks like.

Exit codes: 0 done, 1 infeasible or a failed check, 2 usage.
"""

from __future__ import annotations

import gc
import json
import sys
from typing import Annotated

import typer

from planner.cli import (
    accuracy,
    catalogs,
    compare,
    detect,
    estimate,
    explain,
    fit,
    generate,
    probe,
    recommend,
    validate,
)
from planner.errors import InfeasibleError, PlannerError
from planner.version import __version__

app = typer.Typer(
    name="planner",
    help="What to deploy for LLM serving, does it fit, how fast will it be, what does it cost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
app.command("recommend")(recommend.recommend)
app.command("estimate")(estimate.estimate)
app.command("fit")(fit.fit)
app.command("compare")(compare.compare)
app.command("generate")(generate.generate)
app.command("explain")(explain.explain)
app.command("validate")(validate.validate)
app.command("probe")(probe.probe)
app.command("accuracy")(accuracy.accuracy)
app.command("detect")(detect.detect)
app.add_typer(catalogs.models, name="models")
app.add_typer(catalogs.hardware, name="hardware")
app.add_typer(catalogs.engines, name="engines")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"planner {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = None,
) -> None:
    """Declarative deployment planning for LLM serving."""


def run() -> None:
    """Console entry point: user errors are one line on stderr, never a traceback."""
    gc.disable()  # a short run makes little garbage; collecting it costs a tenth of the time
    try:
        app()
    except InfeasibleError as error:
        _report_infeasible(error)
        sys.exit(error.exit_code)
    except PlannerError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader (head, less) has gone
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)


def _report_infeasible(error: InfeasibleError) -> None:
    from planner.report.text import ladder

    if _wants_json(sys.argv[1:]):
        answer = {
            "error": str(error),
            "remedies": [r.model_dump(mode="json") for r in error.remedies],
            "rejected": [r.model_dump(mode="json") for r in error.rejected],
        }
        sys.stdout.write(json.dumps(answer, indent=2, ensure_ascii=False) + "\n")
    sys.stderr.write("infeasible: " + ladder(error))


def _wants_json(arguments: list[str]) -> bool:
    joined = " ".join(arguments)
    return any(form in joined for form in ("-o json", "--output json", "--output=json", "-ojson"))
