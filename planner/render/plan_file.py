"""plan.yaml: a plan as text that people read, and back, exactly.

Fields stand in the order of the specs; optional fields that hold nothing are left out. The text uses
a subset of YAML that every YAML 1.1 and 1.2 parser reads alike: strings that could be mistaken for
something else are quoted, no anchors, no tags. Reading refuses everything a plan never holds
(aliases, duplicate keys, depth, size) before an object is built.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from planner.errors import FormatError
from planner.formats.strict_yaml import KeyProblemError, strict_loader
from planner.spec.base import Spec

if TYPE_CHECKING:
    from planner.spec.plan import Plan

MAX_CHARACTERS: Final = 16 * 1024 * 1024
MAX_DEPTH: Final = 40
_HEADER = "# A plan: what was asked, what was chosen and why. `planner generate plan.yaml` writes its files.\n"
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./+-]*( [A-Za-z0-9_./+-]+)*")
_RESERVED = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"))


def dump_plan(plan: Plan) -> str:
    """`plan` as YAML. `load_plan(dump_plan(p)) == p`, and dumping again gives the same bytes."""
    import yaml

    return _HEADER + yaml.dump(
        _plain(plan),
        Dumper=_dumper(),
        sort_keys=False,
        allow_unicode=True,
        width=10**9,
        default_flow_style=False,
    )


def load_plan(text: str) -> Plan:
    """The plan in `text`. Raises FormatError, one line, when it is damaged or not a plan."""
    from pydantic import ValidationError

    from planner.spec.plan import SCHEMA_VERSION, Plan

    data = _parse(text)
    if not isinstance(data, dict) or "best" not in data or "resolved" not in data:
        raise FormatError("this is not a plan: it has no `best` and `resolved`")
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        raise FormatError(f"the plan has schema_version {version!r}; this planner reads {SCHEMA_VERSION}")
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise FormatError(f"the plan is damaged at {where}: {first['msg']}{more}") from None


# --- writing -------------------------------------------------------------------------------------


def _plain(value: object) -> Any:
    """Specs as dicts in field order, without optional fields that hold nothing."""
    if isinstance(value, Spec):
        return {
            name: _plain(getattr(value, name))
            for name, field in type(value).model_fields.items()
            if field.is_required() or not _is_empty(getattr(value, name), field.get_default(call_default_factory=True))
        }
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _is_empty(value: object, default: object) -> bool:
    return value == default and (value is None or value in ("", (), {}))


def _number(value: float) -> str:
    """The shortest text that YAML 1.1 and 1.2 both read as this float."""
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    text = repr(value)
    if "e" not in text and len(text) > 12:
        mantissa, _, exponent = f"{value:.16e}".partition("e")
        short = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent):+d}"
        if float(short) == value and len(short) < len(text):
            text = short
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        mantissa = mantissa if "." in mantissa else mantissa + ".0"
        text = f"{mantissa}e{int(exponent):+03d}"
    return text


def _dumper() -> type[Any]:
    import yaml

    base: type[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc]  # which base depends on libyaml being there
        """Block style, no anchors, numbers in one line, doubtful strings quoted."""

        def ignore_aliases(self, data: object) -> bool:
            return True

    def string(dumper: Any, data: str) -> Any:
        plain = _PLAIN.fullmatch(data) is not None and data.lower() not in _RESERVED
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=None if plain else '"')

    def number(dumper: Any, data: float) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:float", _number(data))

    def sequence(dumper: Any, data: list[Any]) -> Any:
        simple = all(isinstance(item, int | float) for item in data)
        return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=simple)

    Dumper.add_representer(str, string)
    Dumper.add_representer(float, number)
    Dumper.add_representer(list, sequence)
    return Dumper


# --- reading -------------------------------------------------------------------------------------


def _parse(text: str) -> Any:
    import yaml

    if len(text) > MAX_CHARACTERS:
        raise FormatError(f"the plan has {len(text)} characters; the limit is {MAX_CHARACTERS}")
    loader_class: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _refuse_bombs(yaml, yaml.parse(text, Loader=loader_class))
        loader = strict_loader(loader_class)(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except KeyProblemError as error:
        what = "has a key that is no word" if error.key is None else f"gives {error.key!r} twice"
        raise FormatError(f"the plan {what} at line {error.line}") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise FormatError(f"the plan is not valid YAML: {line}{error.problem}") from None
    except yaml.YAMLError as error:
        raise FormatError(f"the plan is not valid YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:
        raise FormatError(f"the plan is not valid YAML: {error}") from None


def _refuse_bombs(yaml: Any, events: Any) -> None:
    depth = 0
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise FormatError(f"the plan holds a YAML alias at line {line}; plans have none")
        if getattr(event, "tag", None):
            raise FormatError(f"the plan holds a YAML tag at line {line}; plans have none")
        if isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise FormatError(f"the plan is nested deeper than {MAX_DEPTH} at line {line}")
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            depth -= 1
