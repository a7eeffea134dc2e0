"""`planner validate` and `planner probe` as functions and as commands: depths, exit codes, JSON alone on stdout."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import planner
from planner.api import load_plan
from planner.cli.main import application
from planner.errors import PlannerError, UnknownNameError
from planner.spec.plan import Plan

Saved = Callable[[str], Path]


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(application(), list(words))
    if isinstance(done.exception, PlannerError):
        raise done.exception
    return done.exit_code, done.stdout


def test_a_saved_plan_is_valid_at_every_depth(saved: Saved) -> None:
    code, text = run("validate", str(saved("vllm-h100")), "-o", "json")
    verdict = json.loads(text)
    assert code == 0 and verdict["status"] == "passed"
    assert {check["depth"] for check in verdict["checks"]} == {"lint", "simulate", "smoke"}
    assert verdict["counts"]["passed"] + verdict["counts"]["skipped"] == len(verdict["checks"])


@pytest.mark.parametrize("depth", ["lint", "simulate"])
def test_one_depth_alone_on_a_plan_file(saved: Saved, depth: str) -> None:
    verdict = planner.validate(saved("ollama-metal") / "plan.yaml", only=depth)
    assert {check.depth for check in verdict.checks} == {depth} and verdict.exit_code == 0


def test_a_failed_check_is_exit_code_1_and_shown(saved: Saved) -> None:
    folder = saved("vllm-h100")
    (folder / "docker-run.sh").write_text((folder / "docker-run.sh").read_text().replace("8192", "4096"))
    code, text = run("validate", str(folder), "--only", "lint")
    assert code == 1 and "failed" in text and "docker-run.sh" in text and "skipped" in text


def test_an_unknown_depth_is_named(plan_named: Callable[[str], Plan]) -> None:
    with pytest.raises(UnknownNameError, match="lint, simulate, smoke"):
        planner.validate(plan_named("vllm-h100"), only="lnt")


def test_the_command_leaves_json_alone_on_stdout_and_one_line_for_a_mistake(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "planner"]
    done = subprocess.run(
        [*command, "validate", str(tmp_path), "-o", "json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.strip().splitlines()) == 1
    done = subprocess.run(
        [*command, "probe", "--url", "http://127.0.0.1:9", "-o", "json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and json.loads(done.stdout)["checks"][0]["name"] == "reachable"


def test_validate_and_probe_are_public(saved: Saved) -> None:
    import planner.validate.verdict as room

    assert callable(planner.probe) and callable(room.Verdict)
    plan = load_plan(saved("vllm-h100"))
    assert planner.validate(plan, only=["simulate"]).status == "passed"
