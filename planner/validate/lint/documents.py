"""What is written in a plan's files: YAML documents, command-line options, image references, secrets.

Reads text only; runs no tool and knows no plan.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

from planner.errors import FormatError

SECRETS = {
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30,}\b"),
    "an NVIDIA API key": re.compile(r"\bnvapi-[A-Za-z0-9_-]{30,}"),
    "an AWS access key": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})"),
    "an API key": re.compile(r"\bsk-[A-Za-z0-9_-]{32,}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}
_NAMED = re.compile(
    r"""\b[A-Z][A-Z0-9_]*(?:TOKEN|SECRET|PASSWORD|PASSPHRASE|API_KEY|ACCESS_KEY)["']?(?:\s*\n\s*value:\s*|\s*[=:]\s*)"""
    r"""["']?[A-Za-z0-9+/=_.-]{8,}(?![\w$(])"""
)
"""A variable whose name says that it is a secret, with a value written out."""
_PATH_OR_NAME = re.compile(r"""[=:\s"'](?:\.{0,2}/\S*|[a-z-]+|[A-Z_]+)["']?$""")
"""What such a value is not: a path, a word, or the name of another variable."""
_WITH_DEFAULT = re.compile(r"\$\{[A-Za-z_]+:?-([^}]*)\}")
_REQUIRED = re.compile(r"\$\{[A-Za-z_]+:?\?")
_FILLED = re.compile(r"\$\$|\$\(\w+\)")
_SHELL_WORDS = re.compile(r"^command_line=\((.*?)^\)", re.MULTILINE | re.DOTALL)
_SHELL_IMAGE = re.compile(r"^\s*planned_image=(\S*)\s*$", re.MULTILINE)


def documents(text: str, name: str) -> list[dict[str, Any]]:
    """The YAML mappings in `text`. Raises FormatError naming `name` when it is not YAML."""
    import yaml

    try:
        found = list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError as error:
        raise FormatError(f"{name} is not valid YAML: {' '.join(str(error).split())[:200]}") from None
    return [document for document in found if isinstance(document, dict)]


def objects(text: str, name: str) -> list[dict[str, Any]]:
    """The Kubernetes objects in `text`: mappings with apiVersion and kind."""
    return [d for d in documents(text, name) if "apiVersion" in d and "kind" in d]


def values_of(document: object, key: str) -> Iterator[Any]:
    """Every value of `key`, at any depth."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name == key:
                yield value
            yield from values_of(value, key)
    elif isinstance(document, list):
        for value in document:
            yield from values_of(value, key)


def images(name: str, text: str) -> list[str]:
    """Image references of a YAML file or a script; a variable with a default is that default.

    A variable that must be set (`${IMAGE:?…}`) names no image and is left out.
    """
    if name.endswith(".sh"):
        found = [match[1].strip("'\"") for match in _SHELL_IMAGE.finditer(text)]
    else:
        found = [value for document in documents(text, name) for value in values_of(document, "image")]
        found = [value for value in found if isinstance(value, str)]
    named = [_WITH_DEFAULT.sub(r"\1", value) for value in found if not _REQUIRED.search(value)]
    return [value for value in named if value]


def option_values(text: str, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Option or variable → every number that `text` gives it, sorted, repetitions kept.

    Understands `--x=1`, `--x 1`, two list entries, `NAME=1`, `NAME: 1` and a `name:` above a `value:`.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        gap = r"""["']?(?:\s*\n\s*value:\s*|=|\s*,\s*|:\s*|\s+(?:-\s+)?)["']?"""
        pattern = re.compile(rf"""(?<![\w-]){re.escape(name)}{gap}(-?\d[\d.]*)(?![\w.])""")
        values = tuple(sorted(match[1] for match in pattern.finditer(text)))
        if values:
            found[name] = values
    return found


def command_lines(name: str, text: str) -> list[list[str]]:
    """Word lists with options: containers' args and commands, Compose's command, a script's `command_line=(…)`.

    `$$`, which Kubernetes and Compose read as one dollar, is undone; 0 stands for `$(NAME)`, which Kubernetes fills in.
    """
    if name.endswith(".sh"):
        return [shlex.split(match[1], comments=True) for match in _SHELL_WORDS.finditer(text)]
    found = []
    for document in documents(text, name):
        for value in (*values_of(document, "args"), *values_of(document, "command")):
            if isinstance(value, list) and all(isinstance(word, str) for word in value):
                found.append([_FILLED.sub(lambda m: "$" if m[0] == "$$" else "0", word) for word in value])
    return found


def secrets(text: str) -> list[str]:
    """What in `text` looks like a secret, by kind; the secret itself is not repeated."""
    found = [kind for kind, pattern in SECRETS.items() if pattern.search(text)]
    written = any(not _PATH_OR_NAME.search(match[0]) for match in _NAMED.finditer(text))
    return [*found, "a secret's value beside its name"] if written and not found else found
