"""The Modelfile as Ollama's own parser would read it, and the script that creates the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import recommend
from planner.errors import UsageError
from planner.render import render
from planner.render.quoting import modelfile as quote
from planner.spec.plan import Plan

INSTRUCTIONS = {"from", "license", "template", "system", "adapter", "draft", "renderer", "parser", "parameter"}
INSTRUCTIONS |= {"message", "requires"}


def unquote(text: str) -> tuple[str, bool]:
    """Triple quotes, then double quotes; False while the closing ones are missing."""
    if text.startswith('"""'):
        return (text[3:-3], True) if len(text) >= 6 and text.endswith('"""') else ("", False)
    if text.startswith('"'):
        return (text[1:-1], True) if len(text) >= 2 and text.endswith('"') else ("", False)
    return text, True


def parse(text: str) -> list[tuple[str, str]]:
    """(instruction or parameter name, value): the grammar of ollama's parser/parser.go.

    A value ends at a line's end once its quotes are closed; characters that do not print are dropped.
    """
    commands: list[tuple[str, str]] = []
    lines = iter(text.splitlines())
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, rest = line.strip().partition(" ")
        if name.lower() not in INSTRUCTIONS:
            raise ValueError(f"unknown instruction {name}")
        if name.lower() == "parameter":
            name, _, rest = rest.strip().partition(" ")
        value, closed = unquote(rest.strip())
        while not closed:
            rest += "\n" + next(lines)
            value, closed = unquote(rest.strip())
        commands.append((name.lower(), "".join(c for c in value if c.isprintable() or c == "\n")))
    if not any(name == "from" for name, _ in commands):
        raise ValueError("no FROM line")
    return commands


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp", "Co", "Cn"]), min_size=1, max_size=40))
def test_values_come_back_from_the_parser(text: str) -> None:
    if not text.isprintable():
        with pytest.raises(UsageError):
            quote(text)
        return
    assert parse(f"FROM x\nPARAMETER stop {quote(text)}\nPARAMETER num_ctx 1\n") == [
        ("from", "x"),
        ("stop", text),
        ("num_ctx", "1"),
    ]


def test_the_modelfile_carries_the_plan(make_plan: Any) -> None:
    plan = make_plan("ollama", "cuda", limits={"num_gpu": 20})
    assert parse(render(plan)["Modelfile"]) == [
        ("from", "hf.co/bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M"),
        ("num_ctx", "8192"),
        ("num_gpu", "20"),
        ("stop", "<|eot_id|>"),
    ]


@pytest.mark.parametrize("checkpoint", ["a\nFROM evil", "a\r\nPARAMETER num_ctx 1", "x\u2028y"])
def test_a_name_cannot_add_an_instruction(make_plan: Any, checkpoint: str) -> None:
    with pytest.raises(UsageError, match="Modelfile"):
        render(make_plan("ollama", "cuda", model={"checkpoint": checkpoint}))


def test_the_same_model_is_made_in_every_place(make_plan: Any) -> None:
    import yaml

    files = render(make_plan("ollama", "cuda"))
    maps = (d["data"] for d in yaml.safe_load_all(files["k8s.yaml"]) if d["kind"] == "ConfigMap")
    config = {"data": next(data for data in maps if "Modelfile" in data)}
    assert config["data"]["Modelfile"] == files["Modelfile"]
    assert yaml.safe_load(files["helm/values.yaml"])["files"]["Modelfile"] == files["Modelfile"]


def test_a_plan_that_splits_layers_pins_the_split() -> None:
    plan = recommend(model="llama3.3-70b", gpus="1xRTX-4090", ram="64GiB", engine="ollama").plan
    memory = plan.best.memory
    assert memory.offloaded_layers is not None and 0 < memory.offloaded_layers < (memory.total_layers or 0)
    assert f"PARAMETER num_gpu {memory.offloaded_layers}\n" in render(plan, ["ollama"])["Modelfile"]
    whole = recommend(model="llama3.1-8b", gpus="1xRTX-4090", engine="ollama").plan
    assert "num_gpu" not in render(whole, ["ollama"])["Modelfile"]


def test_threads_of_a_cpu_are_its_physical_cores() -> None:
    plan = recommend(model="llama3.1-8b", gpus="cpu:epyc-9654", ram="64GiB", engine="ollama").plan
    assert "PARAMETER num_thread 96\n" in render(plan, ["ollama"])["Modelfile"]


def write(plan: Plan, folder: Path) -> str:
    for path, text in render(plan, ["ollama"]).items():
        (folder / path).write_text(text)
    return str(folder / "ollama-create.sh")


def test_the_script_creates_tries_and_shows_the_model(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    recorder.stand_in("ollama")
    plan = make_plan("ollama", "metal", model={"served_name": 'my "model"; $(id)'})
    done = recorder.run(write(plan, tmp_path))
    assert done.returncode == 0, done.stderr
    calls = recorder.calls("ollama")
    assert calls[0] == ["list"] and calls[-1] == ["ps"]
    assert ["create", 'my "model"; $(id)', "-f", str(tmp_path / "Modelfile")] in calls
    assert [words[:2] for words in calls if words[0] == "run"] == [["run", 'my "model"; $(id)']]
    assert "http://127.0.0.1:11434/v1" in done.stdout


def test_the_script_serves_with_the_planned_environment(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    recorder.stand_in("ollama", "env")
    done = recorder.run(write(make_plan("ollama", "metal"), tmp_path), "serve")
    environment = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert recorder.calls("ollama") == [["serve"]]
    assert environment["OLLAMA_CONTEXT_LENGTH"] == "8192" and environment["OLLAMA_NUM_PARALLEL"] == "4"
    assert environment["OLLAMA_MAX_QUEUE"] == "128" and environment["OLLAMA_MAX_LOADED_MODELS"] == "1"


def test_the_script_says_that_ollama_is_missing(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    done = recorder.run(write(make_plan("ollama", "metal"), tmp_path))
    assert done.returncode == 1 and "ollama is not installed" in done.stderr


def test_a_missing_local_file_is_said_before_anything_is_created(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    recorder.stand_in("ollama")
    plan = make_plan("ollama", "metal", model={"checkpoint": "/nowhere/x.gguf"})
    done = recorder.run(write(plan, tmp_path))
    assert done.returncode == 1 and "there is no model file at /nowhere/x.gguf" in done.stderr
    assert recorder.calls("ollama") == []
