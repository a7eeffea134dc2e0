"""Templates to text: jinja2 that refuses an undefined name and an unquoted value.

A template holds text, conditions and loops; it computes nothing. Printing anything but the result
of a filter in `quoting.py` raises, so that no value reaches a file as it came.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

from planner.render.quoting import FILTERS, Quoted
from planner.resources import folder
from planner.sources.index import cache_folder

if TYPE_CHECKING:
    from jinja2 import BytecodeCache, Environment


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
        bytecode_cache=_bytecode_cache(),
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


def _bytecode_cache() -> BytecodeCache | None:
    """Compiled templates beside the catalog's index, as Python keeps .pyc files; None where nothing can be written."""
    from jinja2 import FileSystemBytecodeCache

    try:
        compiled = cache_folder() / "templates"
        compiled.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError):  # no home, read-only disk
        return None
    return FileSystemBytecodeCache(str(compiled)) if os.access(compiled, os.W_OK) else None
