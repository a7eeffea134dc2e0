"""Generated documents are what the code generates, and the README's commands exist."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def refresh() -> ModuleType:
    spec = importlib.util.spec_from_file_location("refresh", ROOT / "tests" / "refresh.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["refresh"] = module
    spec.loader.exec_module(module)
    return module


def test_the_readme_shows_what_the_commands_print(refresh: ModuleType) -> None:
    assert (ROOT / "README.md").read_text(encoding="utf-8") == refresh.readme()


def test_the_published_request_schema_is_current_and_takes_the_example(refresh: ModuleType) -> None:
    text = (ROOT / "docs" / "request.schema.json").read_text(encoding="utf-8")
    assert text == refresh.request_schema()
    jsonschema: Any = pytest.importorskip("jsonschema")
    import yaml

    request = yaml.safe_load((ROOT / "examples" / "request.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(request, json.loads(text))


def test_every_command_in_the_readme_is_a_real_verb() -> None:
    from planner.cli.main import GROUPS, VERBS

    verbs = {*VERBS, *GROUPS}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`|/)planner ([a-z]+)", text, re.MULTILINE))
    assert named
    assert named <= verbs


def test_the_page_of_features_shows_what_each_engine_is_told(refresh: ModuleType) -> None:
    text = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    assert text == refresh.features_page()
    assert text.count("refused: ") > 10 and "--spec-method=eagle3" in text and "skopeo copy" in text


def test_the_page_of_targets_shows_what_each_writes(refresh: ModuleType) -> None:
    from planner.render import targets

    text = (ROOT / "docs" / "targets.md").read_text(encoding="utf-8")
    assert text == refresh.targets_page()
    slugs = [target.slug for target in targets()]
    # an example may hold headings of its own
    assert [line[3:] for line in text.splitlines() if line.startswith("## ") and line[3:] in slugs] == slugs
