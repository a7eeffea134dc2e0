"""The `planner` command: its verbs, and what an error looks like.

Exit codes: 0 done, 1 infeasible or a failed check, 2 usage.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from planner.cli.help import Verb, Verbs
from planner.errors import InfeasibleError, PlannerError
from planner.version import __version__

if TYPE_CHECKING:
    from planner.cli.options import Output

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
EXAMPLES = (
    "planner recommend --model llama3-70b --gpus 2xA100 --save-dir out",
    "planner fit --gpus 1xRTX-4090",
    "planner recommend --help",
)
_REFUSED: tuple[type[Exception], ...] = (typer.BadParameter.__mro__[2],)
"""The parser's own exceptions: click's, which newer releases of typer carry a copy of."""
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
        cls=Verbs,
        help="What to deploy for LLM serving, does it fit, how fast will it be, what does it cost.",
        epilog="\n".join(EXAMPLES),
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: rich's boxes cut long names at 80 columns
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )
    app.callback()(main)
    alone = verb in VERBS or verb in GROUPS
    for name in VERBS:
        if not alone or name == verb:
            module = import_module(f"planner.cli.{name}")
            app.command(name, cls=Verb, epilog="\n".join(module.EXAMPLES))(getattr(module, name))
    for name, place in GROUPS.items():
        if not alone or name == verb:
            app.add_typer(getattr(import_module(f"planner.cli.{place}"), name), name=name)
    return app


def run() -> None:
    """Console entry point: user errors are one line on stderr, never a traceback."""
    gc.disable()  # a short run makes little garbage; collecting it costs a tenth of the time
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else it reads every installed package's metadata
    try:
        verb = sys.argv[1] if len(sys.argv) > 1 else None
        code = application(verb)(prog_name="planner", standalone_mode=False)
    except InfeasibleError as error:
        _report_infeasible(error)
        sys.exit(error.exit_code)
    except PlannerError as error:
        from planner.cli.request import as_options

        message = as_options(" ".join(str(error).split()), sys.argv[1:])
        sys.stderr.write(f"error: {message}\n")
        sys.exit(error.exit_code)
    except _REFUSED as error:
        _report_usage(error)
    except BrokenPipeError:  # the reader (head, less) has gone
        sys.stderr.close()
        sys.exit(0)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _report_usage(error: Any) -> NoReturn:
    """What the parser refuses as one line; the help where it was called with nothing at all."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        from planner.cli.usage import told

        sys.stderr.write(f"error: {told(error, sys.argv[1:])}\n")
    sys.exit(2)


def _report_infeasible(error: InfeasibleError) -> None:
    from planner.cli.emit import emit, text_width
    from planner.report.layout import wrapped
    from planner.report.text import ladder

    def answer() -> dict[str, Any]:
        return {
            "error": str(error),
            "remedies": [r.model_dump(mode="json") for r in error.remedies],
            "rejected": [r.model_dump(mode="json") for r in error.rejected],
        }

    emit(_form(sys.argv[1:]), answer, lambda console: None)
    sys.stderr.write(wrapped("infeasible: " + ladder(error), text_width(sys.stderr)))


def _form(arguments: list[str]) -> Output:
    """The form of an answer that `arguments` ask for; the verb has read them, but failed."""
    from planner.cli.options import Output

    joined = " ".join(arguments)
    for form in (Output.json, Output.yaml):
        if any(f"{option}{form.value}" in joined for option in ("-o ", "-o", "--output ", "--output=")):
            return form
    return Output.table
