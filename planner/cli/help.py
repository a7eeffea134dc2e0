"""What `--help` looks like: examples first, options in groups, whole names at any width.

Knows click's help formatter; knows nothing of the verbs.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


class Verb(TyperCommand):
    """A command whose epilog holds examples, one a line, and whose options stand in their panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, then each group of options, in the order in which the verb names them."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                own = "Arguments" if parameter.param_type_name == "argument" else "Options"
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or own, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """The docstring, then the examples: a reader looks for those first."""
        super().format_help_text(ctx, formatter)
        _write_examples(self.epilog, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Nothing more: the examples are above."""


class Verbs(TyperGroup):
    """A group of commands, each with the whole first paragraph of its help."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """The help, then the examples."""
        super().format_help_text(ctx, formatter)
        _write_examples(self.epilog, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Nothing more: the examples are above."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Name and what it does, nothing cut."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(c.help or "")) for name, c in commands if c is not None])


def _summary(text: str) -> str:
    """The first paragraph on one line."""
    return " ".join(text.strip().split("\n\n")[0].split())


def _write_examples(lines: str | None, formatter: Any) -> None:
    """Commands as they are typed: never wrapped, so that they can be copied."""
    if lines:
        with formatter.section("Examples"):
            for line in lines.splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
