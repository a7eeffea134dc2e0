"""What the command line itself refuses, as one line: an unknown option or verb, a missing or malformed value.

The parser's exceptions are told apart by name: click's own in an older typer, a copy inside a newer one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from planner.errors import nearest


def told(error: Any, arguments: Sequence[str]) -> str:
    """The parser's `error` about `arguments`: what, where, the nearest valid names, where to read on."""
    context: Any = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "planner " + " ".join(arguments[:1])
    message = " ".join(error.format_message().split()).rstrip(".")
    match type(error).__name__:
        case "NoSuchOption":
            message = f"unknown option {error.option_name!r}" + _nearest(error.option_name, _options(context))
        case "MissingParameter":
            message = f"{_title(error.param)} is missing{_help(error.param)}"
        case "BadOptionUsage":
            message = re.sub(r"^Option '(.+?)' requires an argument", r"\1 needs a value", message)
            message = re.sub(r"^Option '(.+?)' does not take a value", r"\1 takes no value", message)
        case "BadParameter" if error.param is not None:
            message = f"{_title(error.param)}: {_limit(error.message, given(error.param, arguments))}"
        case _ if (extra := re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", message)) is not None:
            message = f"unexpected {extra[1]!r}: quote a value that holds spaces, and name each option"
        case _ if (verb := re.match(r"No such command '(.*?)'", message)) is not None:
            message = f"unknown verb {verb[1]!r}" + _nearest(verb[1], context.command.commands)
        case _:
            message = message[:1].lower() + message[1:]
    return "".join(c if c.isprintable() else "\ufffd" for c in f"{message}; see `{path} --help`")


def given(parameter: Any, arguments: Sequence[str]) -> str | None:
    """What `arguments` say of an option, None where it cannot be told."""
    for word, after in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name in parameter.opts:
            return value if equals else after
    return None


def _limit(message: str, value: str | None) -> str:
    """`message` of a converter without its ceremony, and what was given where it does not say so."""
    text = " ".join(message.split()).removeprefix("Value error, ").split(", unable to parse")[0].rstrip(".")
    text = text.replace("Input should be", "must be").replace("a valid integer", "a whole number")
    text = text.replace("a valid number", "a number").replace("greater than or equal to", "at least")
    text = text.replace("less than or equal to", "at most")
    return text if value is None or repr(value) in text else f"{text}, not {value!r}"


def _title(parameter: Any) -> str:
    """`--url` of an option, `PLAN` of an argument."""
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    return str(next((o for o in parameter.opts if o.startswith("--")), parameter.opts[0]))


def _help(parameter: Any) -> str:
    """What the parameter is, in brackets."""
    text = getattr(parameter, "help", None)
    return f" ({text[0].lower()}{text[1:].rstrip('.')})" if text else ""


def _options(context: Any) -> list[str]:
    """Every option of the command, whole names only."""
    if context is None:
        return []
    return [o for p in context.command.get_params(context) for o in (*p.opts, *p.secondary_opts) if o.startswith("--")]


def _nearest(name: str, known: Any) -> str:
    close = nearest(name, known, n=3)
    return f"; nearest: {', '.join(close)}" if close else ""
