"""The flags a release's launcher takes, read from the JSON beside its YAML, and checks of a command line.

Knows argparse (vLLM) and clap (TGI) spelling: `--x=v`, negated booleans, `_` for `-`, dotted JSON keys.
Does not know whether a value makes sense for a model; it knows types and closed lists only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from planner.errors import CatalogError, nearest
from planner.records import dataclass
from planner.resources import folder
from planner.spec.engine import EngineRelease


@dataclass(frozen=True, slots=True)
class Flag:
    """One option. `many` takes one or more values, `optional` none or one."""

    name: str
    takes_value: bool
    many: bool
    optional: bool
    negated: bool
    kind: str
    choices: tuple[str, ...]
    plugin_choices: dict[str, str]
    ignore_case: bool


@dataclass(frozen=True, slots=True)
class FlagList:
    """Every spelling of a launcher's options. `verified` says that the real parser printed them."""

    options: dict[str, Flag]
    underscores: bool
    json_keys: bool
    bare: frozenset[str]
    stale: frozenset[str]
    exclusive: tuple[tuple[str, ...], ...]
    verified: bool
    source: str

    def find(self, spelling: str) -> Flag | None:
        """The option that `spelling` names exactly (no abbreviations), or None."""
        name = spelling
        if self.underscores and name.startswith("--"):
            name = name.replace("_", "-")
        flag = self.options.get(name)
        if flag is None and self.json_keys and "." in name:
            parent = self.options.get(name.split(".", 1)[0])
            flag = parent if parent is not None and parent.takes_value else None
        return flag


def flag_list(release: EngineRelease) -> FlagList | None:
    """The flags of `release`, or None when its catalog entry names no file.

    Raises CatalogError when the file is missing or damaged.
    """
    return _read(release.engine, release.flags_file) if release.flags_file else None


def check_flags(release: EngineRelease, args: Sequence[str]) -> tuple[str, ...]:
    """Problems of a launcher's arguments, one line each; empty when the launcher would take them.

    Empty too for a release without a flag list: nothing is known, so nothing is refused.
    """
    known = flag_list(release)
    return tuple(_problems(known, args, f"{release.engine} {release.version}")) if known else ()


def _problems(known: FlagList, args: Sequence[str], title: str) -> Iterator[str]:
    position, seen = 0, set[str]()
    while position < len(args):
        word = args[position]
        position += 1
        if not word.startswith("-") or word == "-" or _is_number(word):
            continue
        if word in known.bare:
            continue
        spelling, equals, attached = word.partition("=")
        flag = known.find(spelling)
        if flag is None:
            yield _unknown(known, spelling, title)
            continue
        seen.add(flag.name)
        if not flag.takes_value:
            if equals:
                off = f"--no-{flag.name.removeprefix('--')}"
                hint = f"; leave it out or write {off}" if off in known.options else ""
                yield f"{title}: {spelling} takes no value, got {attached!r}{hint}"
            continue
        values = [attached] if equals else []
        if not equals:
            limit = len(args) if flag.many else position + 1
            while position < min(limit, len(args)) and not _is_option(known, args[position]):
                values.append(args[position])
                position += 1
        if not values and not flag.optional:
            yield f"{title}: {spelling} needs a value"
        if "." not in spelling:
            yield from (p for v in values if (p := _bad_value(flag, spelling, v, title)))
    for group in known.exclusive:
        if len(both := [name for name in group if name in seen]) > 1:
            yield f"{title}: {' and '.join(both)} exclude each other"


def _unknown(known: FlagList, spelling: str, title: str) -> str:
    name = spelling.replace("_", "-") if known.underscores else spelling
    gone = " (removed in this line)" if name in known.stale else ""
    near = nearest(spelling, (o for o in known.options if o.startswith("--")), n=3)
    return f"{title}: unknown flag {spelling}{gone}" + (f"; nearest: {', '.join(near)}" if near else "")


def _bad_value(flag: Flag, spelling: str, value: str, title: str) -> str | None:
    if flag.choices:
        allowed = {choice.upper() if flag.ignore_case else choice for choice in (*flag.choices, *flag.plugin_choices)}
        if (value.upper() if flag.ignore_case else value) not in allowed:
            near = nearest(value, flag.choices, n=3) or flag.choices[:6]
            return f"{title}: {spelling} does not know {value!r}; nearest: {', '.join(near)}"
        return None
    if flag.kind in _PATTERNS and not _PATTERNS[flag.kind].fullmatch(value):
        return f"{title}: {spelling} needs {_WANTED[flag.kind]}, got {value!r}"
    if flag.kind == "json":
        try:
            json.loads(value)
        except ValueError:
            return f"{title}: {spelling} needs JSON, got {value[:60]!r}"
    return None


_PATTERNS = {
    "int": re.compile(r"-?\d+"),
    "float": re.compile(r"-?(\d+\.?\d*|\.\d+)(e-?\d+)?", re.IGNORECASE),
    "int_list": re.compile(r"\d+(,\d+)*"),
    "bool": re.compile(r"true|false"),
    "tokens": re.compile(r"\d+|\d+(\.\d+)?[kKmMgG]"),
    "tokens_or_auto": re.compile(r"auto|-1|\d+|\d+(\.\d+)?[kKmMgG]"),
}
_WANTED = {
    "int": "a whole number",
    "float": "a number",
    "int_list": "whole numbers with commas",
    "bool": "true or false",
    "tokens": "a number of tokens such as 8192 or 32k",
    "tokens_or_auto": "a number of tokens such as 8192 or 32k, or auto",
}


def _is_number(word: str) -> bool:
    return _PATTERNS["float"].fullmatch(word) is not None


def _is_option(known: FlagList, word: str) -> bool:
    return word.startswith("-") and word != "-" and not _is_number(word)


@cache
def _read(engine: str, name: str) -> FlagList:
    path = folder("catalog") / "engines" / engine / name
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rows = data["flags"]
        options: dict[str, Flag] = {}
        for row in rows:
            nargs = row.get("nargs")
            flag = Flag(
                name=row["flag"],
                takes_value=bool(row.get("takes_value")),
                many=nargs in ("+", "*"),
                optional=nargs in ("?", "*"),
                negated=False,
                kind=row.get("type", ""),
                choices=tuple(str(choice) for choice in row.get("choices", ())),
                plugin_choices=dict(row.get("plugin_choices", {})),
                ignore_case=bool(row.get("ignore_case")),
            )
            for spelling in (row["flag"], *row.get("aliases", ()), *row.get("short", ())):
                options[spelling] = flag
            for spelling in row.get("neg", ()):
                options[spelling] = Flag(row["flag"], False, False, False, True, "", (), {}, False)
        return FlagList(
            options=options,
            underscores=bool(data["underscores"]),
            json_keys=bool(data["json_keys"]),
            bare=frozenset(data.get("optimization_levels", ())),
            stale=frozenset(data.get("stale", ())),
            exclusive=tuple(tuple(group) for group in data.get("exclusive", ())),
            verified=bool(data["verified"]),
            source=data["source"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CatalogError(f"engines/{engine}/{name}: {type(error).__name__}: {error}") from error
