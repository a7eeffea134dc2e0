"""Print an answer: JSON or YAML alone on stdout, or hand a console to a printer of tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from planner.cli.options import Output

if TYPE_CHECKING:
    from rich.console import Console


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

    return Console(width=None if sys.stdout.isatty() else 140, highlight=False, soft_wrap=False)


def note(text: str) -> None:
    """A line for the person, on stderr."""
    sys.stderr.write(text + "\n")
