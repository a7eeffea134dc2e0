"""Quoting of values for each language that an artifact is written in.

Every string of a plan that a user or the Hub supplied is hostile until one of these has been
applied. They return `Quoted`, the only type that a template may print (see `templating.py`), so a
value without a filter is an error and not an injection. Knows nothing of plans.
"""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections.abc import Callable

from planner.errors import UsageError


class Quoted(str):
    """Text that is safe to print at the place its filter is meant for."""

    __slots__ = ()


def printable(text: str) -> str:
    """`text` with every control, format and separator character written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def sh(value: object) -> Quoted:
    """One word of a POSIX shell. A comma is quoted too: in an array it looks like a mistake."""
    text = str(value)
    if "\0" in text:
        raise UsageError(f"{printable(text)[:80]!r} holds a NUL character, which no shell can pass on")
    quoted = shlex.quote(text)
    return Quoted(f"'{text}'" if quoted == text and "," in text else quoted)


def _double_quoted(text: str) -> str:
    escaped = []
    for char in text:
        code = ord(char)
        if char in '"\\':
            escaped.append("\\" + char)
        elif char == "\n":
            escaped.append("\\n")
        elif char.isprintable():
            escaped.append(char)
        else:
            escaped.append(f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")
    return '"' + "".join(escaped) + '"'


def yaml(value: object) -> Quoted:
    """A YAML scalar: numbers and booleans bare, everything else double-quoted on one line."""
    if value is None:
        return Quoted("null")
    if isinstance(value, bool):
        return Quoted("true" if value else "false")
    if isinstance(value, int | float):
        return num(value)
    return Quoted(_double_quoted(str(value)))


_PLAIN_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]*([./][A-Za-z0-9_-]+)*")
_RESERVED = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))


def yaml_key(value: object) -> Quoted:
    """A YAML mapping key: a plain word bare, everything else double-quoted."""
    text = str(value)
    bare = _PLAIN_KEY.fullmatch(text) is not None and text.lower() not in _RESERVED
    return Quoted(text if bare else _double_quoted(text))


def dollars(value: object) -> Quoted:
    """A YAML string whose `$` survives the expansion of Compose (`${X}`) and Kubernetes (`$(X)`).

    Both write a literal `$` as `$$`.
    """
    return Quoted(_double_quoted(str(value).replace("$", "$$")))


def yaml_block(text: str, indent: int) -> Quoted:
    """A YAML literal block, its lines indented by `indent` spaces; double-quoted where a block cannot hold it."""
    lines = text.split("\n")
    plain = all(line.isprintable() for line in lines)
    if not plain or not text.endswith("\n") or text.endswith("\n\n") or text[0] in " \n":
        return yaml(text)
    pad = " " * indent
    return Quoted("|\n" + "\n".join(pad + line if line else "" for line in lines[:-1]))


def shift(text: str, spaces: int) -> Quoted:
    """Template output that is already quoted, moved right: a block of YAML at another depth."""
    pad = " " * spaces
    return Quoted("\n".join(pad + line if line else "" for line in text.split("\n")))


def systemd(value: object) -> Quoted:
    """Text of a unit's setting that is not split into words: one line, `%` doubled."""
    return Quoted(printable(str(value)).replace("\\", "\\\\").replace("%", "%%"))


def systemd_quoted(value: object) -> Quoted:
    """One word of a unit's setting in double quotes, C escapes, `%` doubled (it starts a specifier)."""
    return Quoted('"' + "".join(_unit_escape(char) for char in str(value)) + '"')


def systemd_word(value: object) -> Quoted:
    """One word of a unit's command line, where `$` starts a variable too."""
    return Quoted(systemd_quoted(value).replace("$", "$$"))


def _unit_escape(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char == "%":
        return "%%"
    if char == ";" or not char.isprintable():
        code = ord(char)
        return "".join(f"\\x{byte:02x}" for byte in char.encode()) if code > 0x7F else f"\\x{code:02x}"
    return char


def xml(value: object) -> Quoted:
    """Text of an XML element. Raises UsageError for a character that no XML 1.0 document can hold."""
    from xml.sax.saxutils import escape

    text = str(value)
    if any(ord(c) < 0x20 and c not in "\t\n\r" for c in text) or re.search("[\ud800-\udfff\ufffe\uffff]", text):
        raise UsageError(f"{printable(text)[:80]!r} holds a character that XML cannot")
    return Quoted(escape(text, {"\r": "&#13;"}))


def xml_comment(value: object) -> Quoted:
    """Text inside an XML comment: one line without two dashes in a row."""
    return Quoted(printable(str(value)).replace("--", "- -").replace("--", "- -"))


_PS_QUOTES = re.compile("['\u2018\u2019\u201a\u201b]")
"""Characters that PowerShell takes for a single quote."""


def ps(value: object) -> Quoted:
    """A literal string of PowerShell, in which nothing is expanded. Raises UsageError for a line break or a NUL."""
    text = str(value)
    if any(char in text for char in "\0\r\n"):
        raise UsageError(
            f"{printable(text)[:80]!r} cannot stand in a PowerShell script: it holds a line break or a NUL"
        )
    return Quoted("'" + _PS_QUOTES.sub(lambda quote: quote[0] * 2, text) + "'")


_DOCKER_WORD = re.compile(r"[A-Za-z0-9/][A-Za-z0-9._:/@=!+-]*", re.ASCII)


def docker_word(value: object) -> Quoted:
    """A word of a Dockerfile that means the same to Docker and to a shell: a reference, a requirement, a path."""
    text = str(value)
    if not _DOCKER_WORD.fullmatch(text):
        raise UsageError(f"{printable(text)[:80]!r} cannot stand in a Dockerfile: it holds more than a plain name does")
    return Quoted(text)


def py(value: object) -> Quoted:
    """A Python literal of None, a number or a string."""
    if value is not None and not isinstance(value, str | int | float):
        raise TypeError(f"{value!r} has no literal here")
    return Quoted(repr(str(value) if isinstance(value, str) else value))


def num(value: object) -> Quoted:
    """A number as every parser reads it: no exponent for integers, no binary noise."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return Quoted(str(value) if isinstance(value, int) else f"{value:.12g}")


def comment(value: object) -> Quoted:
    """Text for a `#` comment: one line whatever it holds."""
    return Quoted(printable(str(value)))


_MARKDOWN = re.compile(r"[\\`*_\[\]<>|~$&]|^[#+-]|^\d{1,9}(?=[.)](?:\s|$))")


def md(value: object) -> Quoted:
    """Text in a Markdown paragraph or table cell: one line, no markup, no HTML."""
    return Quoted(_MARKDOWN.sub(_escape_markdown, printable(str(value)).strip()))


def _escape_markdown(match: re.Match[str]) -> str:
    text = match[0]
    return f"{text}\\" if text.isdigit() else f"\\{text}"


def md_code(value: object) -> Quoted:
    """Inline code in Markdown; also inside a table (a pipe there is always escaped)."""
    text = printable(str(value))
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest or not text else ""
    return Quoted(f"{fence}{pad}{text.replace('|', chr(92) + '|')}{pad}{fence}")


def modelfile(value: object) -> Quoted:
    """A value of a Modelfile instruction, quoted the way Ollama's parser unquotes it.

    The parser ends an unquoted value at the line's end and drops characters that do not print, so
    a value that holds any is refused. Raises UsageError.
    """
    text = str(value)
    if not text or not text.isprintable():
        raise UsageError(f"{printable(text)[:80]!r} cannot stand in a Modelfile: it holds characters that do not print")
    if text.startswith('"'):
        return Quoted(f'"""{text}"""')
    if text != text.strip():
        return Quoted(f'"{text}"')
    return Quoted(text)


def mount(value: object) -> Quoted:
    """One `key=value` field of `docker run --mount`, whose grammar is a line of CSV."""
    text = str(value)
    if "\n" in text or "\r" in text:
        raise UsageError(f"{printable(text)[:80]!r} cannot be mounted: its path holds a line break")
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow([text])
    return Quoted(out.getvalue())


FILTERS: dict[str, Callable[..., Quoted]] = {
    "sh": sh,
    "yaml": yaml,
    "dollars": dollars,
    "yaml_key": yaml_key,
    "yaml_block": yaml_block,
    "shift": shift,
    "systemd": systemd,
    "systemd_quoted": systemd_quoted,
    "systemd_word": systemd_word,
    "xml": xml,
    "xml_comment": xml_comment,
    "docker_word": docker_word,
    "ps": ps,
    "py": py,
    "num": num,
    "comment": comment,
    "md": md,
    "md_code": md_code,
    "modelfile": modelfile,
}
