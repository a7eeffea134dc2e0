"""Print an answer: JSON or YAML alone on stdout, or hand a console to a printer of tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, TextIO

from planner.cli.options import Output

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 140
"""Wide enough for a ledger where there is no terminal."""


def emit(form: Output, data: Callable[[], Any], table: Callable[[Console], None]) -> None:
    """`data` is called for JSON and YAML, `table` for people."""
    if form is Output.json:
        sys.stdout.write(json.dumps(data(), indent=2, ensure_ascii=False) + "\n")
    elif form is Output.yaml:
        import yaml

        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        sys.stdout.write(yaml.dump(data(), Dumper=dumper, sort_keys=False, allow_unicode=True, width=120))
    else:
        table(console())


def console() -> Console:
    """A console for stdout; wide enough for a ledger when piped."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False, soft_wrap=False)


def text_width(stream: TextIO) -> int:
    """Characters in a line of `stream`: the terminal's, or as much as a table takes in a file."""
    return get_terminal_size().columns if stream.isatty() else PIPED_WIDTH


def note(text: str) -> None:
    """A line for the person, on stderr."""
    sys.stderr.write(text + "\n")
