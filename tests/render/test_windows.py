"""windows.ps1 and wsl-vllm.sh: the planned server on Windows."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import UsageError
from planner.render import quoting, render
from planner.render.native import native

DESKTOP = {"device": {"device_class": "consumer"}}
STRINGS = re.compile(r"'((?:[^'\u2018\u2019\u201a\u201b]|['\u2018\u2019\u201a\u201b]{2})*)'")


def unquoted(literal: str) -> str:
    """PowerShell's reading of a single-quoted string."""
    return re.sub(r"(['\u2018\u2019\u201a\u201b])\1", r"\1", literal)


@given(st.text(alphabet="'\"`$(){};|&%#@\u2018\u2019\u201a\u201bab \té", max_size=40))
def test_powershell_literals_come_back(text: str) -> None:
    (literal,) = STRINGS.fullmatch(quoting.ps(text)).groups()  # type: ignore[union-attr]
    assert unquoted(literal) == text


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_what_would_end_a_line_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="line break"):
        quoting.ps(text)


@pytest.mark.parametrize("platform", ["cuda", "cpu", "rocm"])
def test_ollama_runs_natively_with_the_planned_limits(make_plan: Any, platform: str) -> None:
    machine = {} if platform == "cpu" else DESKTOP
    plan = make_plan("ollama", platform, model={"served_name": "it's $me"}, machine=machine)
    files = render(plan, ["windows"])
    script = files["windows.ps1"]
    for name, value in native(plan).environment.items():
        assert f"$env:{name} = '{value}'\n" in script
    assert "$Model = 'it''s $me'\n" in script and "create $Model -f Modelfile" in script
    assert "ollama.exe run" not in script  # an empty prompt is lost on the way, and without one it waits for a user
    assert "PARAMETER num_ctx 8192" in files["Modelfile"] and "wsl" not in script.lower().replace("wsl2", "")


def test_llama_server_gets_the_planned_words(make_plan: Any) -> None:
    plan = make_plan("llamacpp", "cuda")
    script = render(plan, ["windows"])["windows.ps1"]
    block = script.partition("$Words = @(\n")[2].partition("\n)")[0]
    assert tuple(map(unquoted, STRINGS.findall(block))) == native(plan).words
    assert "& llama-server.exe @Words" in script


def test_vllm_runs_in_wsl2_with_the_planned_words(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    plan = make_plan("vllm", "cuda", model={"served_name": "a'b $(id)"}, machine=DESKTOP)
    files = render(plan, ["windows"])
    assert "memory=26GB" in files["windows.ps1"] and "wsl.exe" in files["windows.ps1"]
    assert "$(id)" not in files["windows.ps1"]
    script = tmp_path / "wsl-vllm.sh"
    script.write_text(files["wsl-vllm.sh"])
    recorder.stand_in("nvidia-smi")
    recorder.stand_in("python3", 'mkdir -p "$3/bin"; for t in pip vllm; do ln -s "$(command -v $t)" "$3/bin/$t"; done')
    recorder.stand_in("pip")
    recorder.stand_in("vllm")
    done = recorder.run(str(script))
    assert done.returncode == 0, done.stderr
    assert recorder.calls("pip") == [["install", "--quiet", "vllm==0.33.0"]]
    assert recorder.calls("vllm") == [["serve", *native(plan).words]]


def test_a_plugin_is_installed_with_its_pins(make_plan: Any) -> None:
    plan = make_plan("vllm", "cuda", choice={"plugin": "vllm-bnb-plugin"}, machine=DESKTOP)
    assert "vllm-bnb-plugin==0.0.3 bitsandbytes==0.50.2" in render(plan, ["windows"])["wsl-vllm.sh"]


def test_shellcheck_finds_nothing(make_plan: Any, shellcheck: str) -> None:
    text = render(make_plan("vllm", "cuda", machine=DESKTOP), ["windows"])["wsl-vllm.sh"]
    done = subprocess.run([shellcheck, "-"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("engine", "platform", "parts", "reason"),
    [
        ("tgi", "cuda", {}, "inside Docker Desktop"),
        ("vllm", "rocm", {}, "in WSL2 on an NVIDIA GPU"),
        ("ollama", "metal", {}, "not on metal"),
        ("vllm", "cuda", {"replicas": 2, "machine": DESKTOP}, "one unit is one server"),
        ("vllm", "cuda", {"choice": {"plugin": "unheard-of"}, "machine": DESKTOP}, "no version of the plugin"),
        ("vllm", "cuda", {}, "WSL2 does not show it a data-centre GPU"),
        ("ollama", "rocm", {}, "knows no data-centre GPU"),
        ("ollama", "cuda", {"machine": {"device": {"device_class": "embedded"}}}, "runs Linux, not Windows"),
        ("ollama", "cuda", {"model": {"served_name": 'a"b'}}, "double quote"),
        ("llamacpp", "cuda", {"model": {"served_name": 'a"b'}}, "double quote"),
        ("llamacpp", "cuda", {"model": {"served_name": "a b\\"}}, "a backslash at its end"),
    ],
)
def test_what_windows_cannot_do_is_refused(
    make_plan: Any, engine: str, platform: str, parts: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        render(make_plan(engine, platform, **parts), ["windows"])


@pytest.mark.parametrize(("name", "marked"), [("plain", False), ("modèle", True)])
def test_a_script_that_is_not_ascii_says_its_encoding(make_plan: Any, name: str, marked: bool) -> None:
    script = render(make_plan("ollama", "cuda", model={"served_name": name}), ["windows"])["windows.ps1"]
    assert script.startswith("\ufeff") is marked and f"$Model = '{name}'" in script
