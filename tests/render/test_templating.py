"""Templates print quoted values only, and say so loudly otherwise."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest

from planner.render import templating
from planner.resources import folder

TEMPLATES = sorted(folder("templates").rglob("*.j2"))


def test_a_value_without_a_filter_raises() -> None:
    template = templating._environment().from_string("{{ value }}")
    with pytest.raises(TypeError, match="without a quoting filter"):
        template.render(value="$(id)")


def test_an_undefined_name_raises() -> None:
    template = templating._environment().from_string("{{ missing | sh }}")
    with pytest.raises(jinja2.UndefinedError):
        template.render()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_compute_nothing(path: Path) -> None:
    text = re.sub(r"{% raw %}.*?{% endraw %}", "", path.read_text(), flags=re.DOTALL)
    for expression in re.findall(r"{[{%](.*?)[%}]}", text, flags=re.DOTALL):
        bare = re.sub(r"\"[^\"]*\"", "", expression).strip().strip("+-")
        assert not re.search(r"[*/%]|\s[+-]\s", bare), expression


@pytest.mark.parametrize("path", sorted(p for p in folder("templates").rglob("*") if p.is_file()), ids=str)
def test_no_template_holds_what_no_artifact_may(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r":(latest|main|nightly)\b", text)
    assert "privileged: true" not in text and "--privileged" not in text
    assert not re.search(r"\bhf_[A-Za-z0-9]{20,}", text)
    assert "0.0.0.0" not in text
