"""The one error tree.

    PlannerError
    ├── UsageError (ValueError)              the request is wrong                        exit 2
    │   └── UnknownNameError (LookupError)   a name no catalog has; carries the nearest  exit 2
    ├── InfeasibleError                      no configuration fits; carries remedies     exit 1
    ├── CheckFailedError                     a check of an artifact or endpoint failed   exit 1
    ├── OutputError (OSError)                the output place cannot be written          exit 1
    ├── NetworkError (OSError)               a hub or registry cannot be reached          exit 1
    ├── CatalogError                         a data file is wrong: our bug or an edit's  exit 1
    └── FormatError (ValueError)             a model or plan file is damaged             exit 2

A user's mistake prints one line; a traceback means a bug of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planner.spec.plan import Rejection, Remedy

__all__ = [
    "CatalogError",
    "CheckFailedError",
    "FormatError",
    "InfeasibleError",
    "NetworkError",
    "OutputError",
    "PlannerError",
    "UnknownNameError",
    "UsageError",
    "nearest",
]


class PlannerError(Exception):
    """Base of every error a caller may expect. `exit_code` is what the CLI returns."""

    exit_code = 1


class UsageError(PlannerError, ValueError):
    """The request itself is wrong: one line that says what, which limit, and valid values."""

    exit_code = 2


class UnknownNameError(UsageError, LookupError):
    """A name that no catalog has.

    `kind` is what was looked up ("model", "accelerator" …), `known` the names to suggest from, or a
    function that gives them. The nearest are looked for only when somebody asks: resolving a name
    tries some that do not exist.
    """

    def __init__(
        self, kind: str, name: str, known: Iterable[str] | Callable[[], Iterable[str]] = (), hint: str = ""
    ) -> None:
        self.kind, self.name, self.hint = kind, name, hint
        self._known = known if callable(known) else tuple(known)
        super().__init__(kind, name)

    @cached_property
    def suggestions(self) -> tuple[str, ...]:
        """The known names that look most like it, best first."""
        return nearest(self.name, self._known() if callable(self._known) else self._known)

    def __str__(self) -> str:
        text = f"unknown {self.kind} {_printable(self.name)}"
        if self.suggestions:
            text += "; nearest: " + ", ".join(self.suggestions)
        return f"{text}; {self.hint}" if self.hint else text


class InfeasibleError(PlannerError):
    """Nothing that was asked for fits. `remedies` is the ranked ladder of ways out; `tried`: they were looked for."""

    def __init__(
        self,
        message: str,
        remedies: tuple[Remedy, ...] = (),
        rejected: tuple[Rejection, ...] = (),
        *,
        tried: bool = True,
    ) -> None:
        super().__init__(message)
        self.remedies, self.rejected, self.tried = remedies, rejected, tried


class CheckFailedError(PlannerError):
    """A check ran and said no."""


class OutputError(PlannerError, OSError):
    """The output folder or file cannot be written."""


class NetworkError(PlannerError, OSError):
    """A hub or registry cannot be reached, or breaks off; asking again later may help."""


class CatalogError(PlannerError):
    """A data file of the catalog is wrong; the message names file, entry and field."""


class FormatError(PlannerError, ValueError):
    """A file that is read (safetensors, GGUF, Modelfile, plan) is damaged or not of its kind; no better than none."""

    exit_code = 2


def nearest(name: str, known: Iterable[str], n: int = 4) -> tuple[str, ...]:
    """Up to `n` of `known` that look most like `name`, best first."""
    folded: dict[str, str] = {}
    for k in known:
        folded.setdefault(k.casefold(), k)
    hits = difflib.get_close_matches(name.casefold()[:128], folded, n=n, cutoff=0.5)
    return tuple(folded[h] for h in hits)


def _printable(name: str) -> str:
    """`name` quoted on one line, control characters escaped, cut at 80 characters."""
    text = repr(name)
    return text if len(text) <= 80 else text[:76] + "…'"
