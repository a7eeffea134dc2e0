"""The `planner` command: its verbs, and what an error looks like.

Exit codes: 0 done, 1 infeasible or a failed check, 2 usage.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from importlib import import_module
from typing import Annotated

import typer

from planner.errors import InfeasibleError, PlannerError
from planner.version import __version__

VERBS = (
    "recommend",
    "estimate",
    "fit",
    "compare",
    "generate",
    "migrate",
    "explain",
    "simulate",
    "validate",
    "probe",
    "calibrate",
    "accuracy",
    "detect",
)
"""Commands; each is the function of its own name in the module of its own name."""
GROUPS = {"models": "catalogs", "hardware": "catalogs", "engines": "catalogs", "catalog": "catalog"}
"""Groups of commands, and the module that holds each."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"planner {__version__}")
        raise typer.Exit


def main(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = None,
) -> None:
    """Declarative deployment planning for LLM serving."""


def application(verb: str | None = None) -> typer.Typer:
    """The command line; with the name of a verb, that one alone (building them all costs 30 ms)."""
    app = typer.Typer(
        name="planner",
        help="What to deploy for LLM serving, does it fit, how fast will it be, what does it cost.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )
    app.callback()(main)
    alone = verb in VERBS or verb in GROUPS
    for name in VERBS:
        if not alone or name == verb:
            app.command(name)(getattr(import_module(f"planner.cli.{name}"), name))
    for name, module in GROUPS.items():
        if not alone or name == verb:
            app.add_typer(getattr(import_module(f"planner.cli.{module}"), name), name=name)
    return app


def run() -> None:
    """Console entry point: user errors are one line on stderr, never a traceback."""
    gc.disable()  # a short run makes little garbage; collecting it costs a tenth of the time
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else it reads every installed package's metadata
    try:
        application(sys.argv[1] if len(sys.argv) > 1 else None)()
    except InfeasibleError as error:
        _report_infeasible(error)
        sys.exit(error.exit_code)
    except PlannerError as error:
        from planner.cli.request import as_options

        message = as_options(" ".join(str(error).split()), sys.argv[1:])
        sys.stderr.write(f"error: {message}\n")
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
