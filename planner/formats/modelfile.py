"""Ollama's Modelfile: a strict reader, and quoting that this reader and Ollama's undo.

Grammar and reading as of Ollama 0.33 (parser/parser.go, api/types.go): instructions in any case, `#`
comments, a value bare to the end of its line or in `"…"` or `\"\"\"…\"\"\"` up to the first line that ends with the
closing quotes; characters that do not print are dropped. Reports what Ollama would refuse, with the line.
Knows nothing of models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from planner.errors import FormatError, nearest

INSTRUCTIONS = (
    "FROM", "PARAMETER", "TEMPLATE", "SYSTEM", "ADAPTER", "LICENSE", "MESSAGE", "REQUIRES", "DRAFT", "RENDERER",
    "PARSER",
)  # fmt: skip
ROLES = ("system", "user", "assistant")
PARAMETERS: dict[str, type[int] | type[float] | type[bool] | type[str]] = {
    "num_keep": int, "seed": int, "num_predict": int, "top_k": int, "top_p": float, "min_p": float,
    "typical_p": float, "repeat_last_n": int, "temperature": float, "repeat_penalty": float,
    "presence_penalty": float, "frequency_penalty": float, "stop": str, "num_ctx": int, "num_batch": int,
    "num_gpu": int, "main_gpu": int, "use_mmap": bool, "num_thread": int, "draft_num_predict": int,
}  # fmt: skip
IGNORED_PARAMETERS = frozenset(
    {"penalize_newline", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock"}
    | {"mirostat", "mirostat_tau", "mirostat_eta"}
)
TRUE_WORDS = frozenset({"1", "t", "T", "TRUE", "true", "True"})
FALSE_WORDS = frozenset({"0", "f", "F", "FALSE", "false", "False"})
Value = int | float | bool | str


@dataclass(frozen=True, slots=True)
class Modelfile:
    """What the file says. `sources` are the FROM lines (a second one is a projector), `parameters` keep
    the file's order, and `ignored` names parameters that Ollama 0.33 drops with a warning.
    """

    sources: tuple[str, ...]
    parameters: tuple[tuple[str, Value], ...] = ()
    template: str | None = None
    system: str | None = None
    adapters: tuple[str, ...] = ()
    licenses: tuple[str, ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    requires: str | None = None
    draft: str | None = None
    renderer: str | None = None
    parser: str | None = None
    ignored: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The model that the first FROM names."""
        return self.sources[0]

    def get(self, parameter: str) -> Value | None:
        """The last value of `parameter`, or None when the file does not set it."""
        return next((value for name, value in reversed(self.parameters) if name == parameter), None)


def parse_modelfile(text: str) -> Modelfile:
    """Read a Modelfile. Raises FormatError with the line number on the first thing Ollama would refuse."""
    values: dict[str, list[str]] = {}
    parameters: list[tuple[str, Value]] = []
    messages: list[tuple[str, str]] = []
    ignored: list[str] = []
    for line, instruction, name, value in _statements(text):
        if instruction == "MESSAGE":
            messages.append((name, value))
        elif instruction != "PARAMETER":
            values.setdefault(instruction, []).append(_checked(instruction, value, line))
        elif name in IGNORED_PARAMETERS:
            ignored.append(name)
        else:
            parameters.append((name, _typed(name, value, line)))
    if "FROM" not in values:
        raise FormatError("Modelfile: no FROM line")

    def last(instruction: str) -> str | None:
        return values[instruction][-1] if instruction in values else None

    return Modelfile(
        sources=tuple(values["FROM"]),
        parameters=tuple(parameters),
        template=last("TEMPLATE"),
        system=last("SYSTEM"),
        adapters=tuple(values.get("ADAPTER", ())),
        licenses=tuple(values.get("LICENSE", ())),
        messages=tuple(messages),
        requires=last("REQUIRES"),
        draft=last("DRAFT"),
        renderer=last("RENDERER"),
        parser=last("PARSER"),
        ignored=tuple(ignored),
    )


def quote(value: str) -> str:
    """`value` as an instruction's argument that reads back as exactly `value`.

    The first of bare, `"…"` and triple quotes that does. Raises FormatError where none does: the value
    holds characters that do not print, or lines that end like the closing quotes.
    """
    for written in (value, f'"{value}"', f'"""{value}"""'):
        if written and _value(_printed(written) + "\n", 0) == (value, len(written)):
            return written
    raise FormatError(f"a Modelfile cannot carry {value[:60]!r}: it would not read back unchanged")


def _statements(text: str) -> Iterator[tuple[int, str, str, str]]:
    """(line, instruction, parameter or role, value) of each statement."""
    text = _printed(text)
    position = 0
    while True:
        skipped = _BLANK.match(text, position)
        position = skipped.end() if skipped else position
        if position >= len(text):
            return
        line = _line(text, position)
        word = _match(_WORD, text, position)
        instruction = word.upper()
        position += len(word)
        if instruction not in INSTRUCTIONS or text[position : position + 1] not in (" ", "\t"):
            raise _error(line, _unknown_instruction(word, text[position : position + 1]))
        position += 1
        name = ""
        if instruction in ("PARAMETER", "MESSAGE"):
            name = _match(_NAME if instruction == "PARAMETER" else _WORD, text, position)
            position += len(name)
            if not name or text[position : position + 1] not in (" ", "\t"):
                what = "a name" if instruction == "PARAMETER" else f"a role ({', '.join(ROLES)})"
                raise _error(line, f"{instruction} needs {what}, one space and a value")
            if instruction == "MESSAGE" and name not in ROLES:
                raise _error(line, f"MESSAGE role {name!r} is not one of {', '.join(ROLES)}")
            position += 1
        value, position = _value(text, position)
        if value is None:
            raise _error(line, f"{instruction} opens a quote and never closes it")
        yield line, instruction, name, value


def _value(text: str, position: int) -> tuple[str | None, int]:
    """The value at `position` and where it ends; None when its quotes are still open at the end of the text."""
    start = position + len(_match(_INDENT, text, position))
    quotes = '"""' if text.startswith('"""', start) else '"' if text.startswith('"', start) else ""
    end = position
    while True:
        newline = _NEWLINE.search(text, end)
        end = newline.start() if newline else len(text)
        last = end
        while last > start and text[last - 1].isspace():
            last -= 1
        if last - start >= 2 * len(quotes) and text.endswith(quotes, start, last):
            return text[start + len(quotes) : max(start, last) - len(quotes)], end
        if newline is None:
            return None, end
        end += 1


def _printed(text: str) -> str:
    """`text` without the characters that Ollama drops while reading."""
    return "".join(c for c in text if c.isprintable() or c in "\t\r\n")


def _checked(instruction: str, value: str, line: int) -> str:
    if not value and instruction in ("FROM", "ADAPTER", "REQUIRES", "DRAFT", "RENDERER", "PARSER"):
        raise _error(line, f"{instruction} needs a value")
    if instruction == "REQUIRES" and not _VERSION.fullmatch(value):
        raise _error(line, f"REQUIRES needs a version such as 0.14.0, got {value[:40]!r}")
    return value


def _typed(name: str, value: str, line: int) -> Value:
    kind = PARAMETERS.get(name)
    if kind is None:
        near = nearest(name, PARAMETERS, n=3)
        raise _error(line, f"unknown parameter {name[:40]!r}" + (f"; nearest: {', '.join(near)}" if near else ""))
    if kind is str:
        return value
    if kind is bool:
        if value in TRUE_WORDS | FALSE_WORDS:
            return value in TRUE_WORDS
        raise _error(line, f"{name} needs true or false, got {value[:40]!r}")
    if not (_INTEGER if kind is int else _FLOAT).fullmatch(value):
        wanted = "a whole number" if kind is int else "a number"
        raise _error(line, f"{name} needs {wanted}, got {value[:40]!r}")
    return int(value) if kind is int else float(value)


def _unknown_instruction(word: str, after: str) -> str:
    if word.upper() in INSTRUCTIONS:
        return f"{word} needs a space and a value"
    near = nearest(word, INSTRUCTIONS, n=2)
    return f"unknown instruction {(word + after.strip())[:40]!r}" + (f"; nearest: {', '.join(near)}" if near else "")


def _match(pattern: re.Pattern[str], text: str, position: int) -> str:
    found = pattern.match(text, position)
    return found[0] if found else ""


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _error(line: int, complaint: str) -> FormatError:
    return FormatError(f"Modelfile line {line}: {complaint}")


_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)+")
_INDENT = re.compile(r"[ \t]*")
_WORD = re.compile(r"[A-Za-z]*")
_NAME = re.compile(r"[A-Za-z0-9_]*")
_NEWLINE = re.compile(r"[\r\n]")
_VERSION = re.compile(r"v?\d+(\.\d+){0,2}([-+][0-9A-Za-z.+-]+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
