"""Tables and text at the width there is: nothing is cut without a sign, nothing loses its indentation.

Knows widths; knows nothing of plans.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from planner.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

_GAP = 2
_NARROWEST = 16
"""Least width of a column whose text may go over several lines."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. `loose`: its text may take several lines. `spare` > 0: what goes first where the table is
    too wide, the largest first. `style` is rich's."""

    name: str
    right: bool = False
    loose: bool = False
    spare: int = 0
    style: str = ""


def print_columns(
    console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]], title: str = "", complete: str = ""
) -> None:
    """`rows` under their `columns`, as many as the console is wide enough for; those left out are named.

    A column that is empty in every row is not shown. A space in a name breaks it where the table is too wide
    otherwise. Where not even the least fits, each row is a paragraph. `complete` says where all of it is.
    """
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    told = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    wide = _width(columns, rows, told, split=False) <= console.width
    shown = told if wide else _fitting(columns, rows, told, console.width)
    if not wide and _width(columns, rows, shown, split=True) > console.width:
        _print_rows(console, [columns[i].name for i in told], [[row[i] for i in told] for row in rows], title)
        return
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for i in shown:
        c = columns[i]
        table.add_column(
            c.name if wide else _split(c.name),
            justify="right" if c.right else "left",
            no_wrap=not c.loose,
            overflow="fold",
            style=c.style,
        )
    for row in rows:
        table.add_row(*(Text(row[i]) for i in shown))
    console.print(table)
    left = [columns[i].name for i in told if i not in shown]
    if left:
        where = f" ({complete})" if complete else ""
        print_text(console, f"not shown at this width: {', '.join(left)}{where}", style="dim")


def _print_rows(console: Console, names: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    """A paragraph a row, where no table fits: a number that is cut is another number."""
    if title:
        print_text(console, title, "italic")
    for row in rows:
        told = [f"{name} {cell}".strip() for name, cell in zip(names, row, strict=True) if cell]
        print_text(console, f"  · {', '.join(told)}")


def print_list(console: Console, title: str, lines: Iterable[str], style: str = "") -> None:
    """`title`, one line a bullet, an empty line; nothing where there are no lines."""
    from rich.text import Text

    items = list(lines)
    if not items:
        return
    console.print(Text(title, style="bold"))
    for line in items:
        print_text(console, f"  · {line}", style)
    console.print()


def print_text(console: Console, text: str, style: str = "") -> None:
    """`text` wrapped to the console, further lines indented below the first."""
    from rich.text import Text

    console.print(Text(wrapped(text, console.width), style=style), soft_wrap=True)


def wrapped(text: str, width: int) -> str:
    """Each line of `text` at most `width` characters, what follows indented below what it began with.

    Commands stay on one line, so that they can be copied; so does a word that is longer than a line.
    """
    return "\n".join(_wrapped_line(line, width) for line in text.split("\n"))


def _wrapped_line(line: str, width: int) -> str:
    if len(line) <= width or line.lstrip().startswith("planner "):
        return line
    mark = re.match(r" *(?:[·→] |\d+\. |because |source: )?", line)
    indent = min(mark.end() if mark else 0, width // 3)
    return textwrap.fill(
        line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False,
        drop_whitespace=True,
    )  # fmt: skip


def _split(name: str) -> str:
    return name.replace(" ", "\n", 1)


def _width(columns: Sequence[Column], rows: Sequence[Sequence[str]], shown: Iterable[int], *, split: bool) -> int:
    """Characters that the columns `shown` need, loose ones at their narrowest."""
    from rich.cells import cell_len

    total = -_GAP
    for i in shown:
        head = max(map(cell_len, (_split(columns[i].name) if split else columns[i].name).split("\n")))
        body = max((cell_len(row[i]) for row in rows), default=0)
        total += _GAP + (max(head, min(body, _NARROWEST)) if columns[i].loose and split else max(head, body))
    return total


def _fitting(columns: Sequence[Column], rows: Sequence[Sequence[str]], told: list[int], width: int) -> list[int]:
    """Indices among `told` of the columns that fit `width`: what is to spare goes first."""
    shown = list(told)
    while _width(columns, rows, shown, split=True) > width:
        spare = max(shown, key=lambda i: columns[i].spare)
        if not columns[spare].spare:
            break
        shown.remove(spare)
    return shown
