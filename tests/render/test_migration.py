"""MIGRATE.md: the same model from Ollama to vLLM, with the files of both plans."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import planner
from planner.errors import UsageError
from planner.render import load_plan, render
from planner.render.migration import AFTER, BEFORE, FILE, migration
from planner.sources.companions import migration_rows


def both(make_plan: Any, **model: Any) -> dict[str, str]:
    return migration(make_plan("ollama", "cuda", model=model), make_plan("vllm", "cuda", model=model))


def commands(text: str) -> list[list[str]]:
    """Words of every line of the document's code blocks."""
    blocks = re.findall(r"^ {3}```\n(.*?)^ {3}```$", text, re.MULTILINE | re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def test_each_side_has_all_its_files_unchanged(make_plan: Any) -> None:
    files = both(make_plan)
    for engine, folder in (("ollama", BEFORE), ("vllm", AFTER)):
        own = {path.removeprefix(f"{folder}/"): text for path, text in files.items() if path.startswith(f"{folder}/")}
        assert own == render(make_plan(engine, "cuda"))
        assert load_plan(own["plan.yaml"]).best.engine.name == engine
    assert set(files) == {FILE} | {path for path in files if path.split("/")[0] in (BEFORE, AFTER)}


@pytest.mark.parametrize("served", ["llama3.1-8b", 'it\'s "$(id)" | `x`', "```"])
def test_the_client_is_told_base_url_and_name_and_the_commands_say_them(make_plan: Any, served: str) -> None:
    files = both(make_plan, served_name=served)
    asked = [words for words in commands(files[FILE]) if words[0] == "curl"]
    assert [words[2] for words in asked] == [
        "http://127.0.0.1:11434/v1/chat/completions",
        "http://127.0.0.1:8000/v1/chat/completions",
    ]
    assert [json.loads(words[-1])["model"] for words in asked] == [served, served]
    for words in commands(files[FILE]):
        named = [
            word for word in words if word.startswith((f"{BEFORE}/", f"{AFTER}/")) and word.endswith((".sh", ".yaml"))
        ]
        assert set(named) <= set(files), words
    for row in migration_rows():
        assert row.what.replace("_", "\\_") in files[FILE]


def test_the_order_of_the_two_engines_is_fixed(make_plan: Any) -> None:
    with pytest.raises(UsageError, match="the prototype runs ollama"):
        migration(make_plan("vllm", "cuda"), make_plan("vllm", "cuda"))
    with pytest.raises(UsageError, match="from ollama to vllm"):
        planner.migrate(make_plan("tgi", "cuda"))


def test_the_other_side_is_planned_for_the_same_model_and_load() -> None:
    before = planner.recommend(model="llama3-8b", gpus="1xL4", engine="ollama", concurrency=4, input_tokens=700).plan
    files = planner.migrate(before, gpus="1xH100")
    after = load_plan(files[f"{AFTER}/plan.yaml"])
    assert after.best.engine.name == "vllm" and after.best.hardware.label == "1xH100-SXM"
    assert after.best.model.id == before.best.model.id
    assert (after.request.concurrency, after.request.input_tokens) == (4, 700)
    back = planner.migrate(after, gpus="1xL4")
    assert load_plan(back[f"{BEFORE}/plan.yaml"]).best == before.best


def test_the_command_writes_both_sides(tmp_path: Path) -> None:
    from planner.cli.main import application

    planner.recommend(model="llama3-8b", gpus="1xL4", engine="ollama").save(tmp_path / "p")
    done = CliRunner().invoke(
        application("migrate"), ["migrate", str(tmp_path / "p"), "--save-dir", str(tmp_path / "m")]
    )
    assert done.exit_code == 0, done.output
    assert (tmp_path / "m" / FILE).is_file()
    assert (tmp_path / "m" / AFTER / "docker-run.sh").stat().st_mode & 0o111
