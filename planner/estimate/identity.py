"""Results remembered per spec object.

Hashing a ModelSpec walks its whole tree, which costs more than most of what is computed from it; specs
are frozen and live in the catalog, so the object itself is the key. Equal specs that are different
objects are computed twice, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from planner.spec.base import Spec

P = ParamSpec("P")
R = TypeVar("R")
MAX_ENTRIES = 8192


def remembered(function: Callable[P, R]) -> Callable[P, R]:
    """`function` with its results kept by the identity of its spec arguments and the value of the rest.

    Positional arguments only. An entry holds its specs, so that an id is never one of a dead object.
    """
    entries: dict[tuple[object, ...], tuple[tuple[object, ...], R]] = {}

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        assert not kwargs, "positional arguments only"
        key = tuple([id(a) if isinstance(a, Spec) else a for a in args])
        found = entries.get(key)
        if found is not None:
            return found[1]
        result = function(*args, **kwargs)
        if len(entries) >= MAX_ENTRIES:
            entries.clear()
        entries[key] = (args, result)
        return result

    return wrapper
