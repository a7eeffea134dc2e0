"""Templates to text: jinja2 that refuses an undefined name and an unquoted value.

A template holds text, conditions and loops; it computes nothing. Printing anything but the result
of a filter in `quoting.py` raises, so that no value reaches a file as it came.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from planner.render.quoting import FILTERS, Quoted
from planner.resources import folder

if TYPE_CHECKING:
    from jinja2 import Environment


def fill(template: str, **values: Any) -> str:
    """The text of `template` (a path under templates/) with `values`. Ends with one newline."""
    return _environment().get_template(template).render(values)


def static(path: str) -> str:
    """The text of a file under templates/ that is copied as it is."""
    return (folder("templates") / path).read_text(encoding="utf-8")


def _quoted_only(value: object) -> str:
    if not isinstance(value, Quoted):
        raise TypeError(f"a template prints {value!r} without a quoting filter")
    return value


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(folder("templates"), encoding="utf-8"),
        undefined=StrictUndefined,
        finalize=_quoted_only,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # not HTML; `finalize` demands a filter for every value
    )
    environment.filters = dict(FILTERS) | {"length": len}
    environment.globals = {}
    return environment
