"""quantize.sh and quantize.py: the planned checkpoint, made where nobody publishes it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.errors import UsageError
from planner.estimate.tensors import parameter_count
from planner.render import default_files, render
from planner.render.recipe import layer_bytes, making
from planner.sources.recipes import made_path, recipes
from planner.units import GIB

FORMATS = [quantization for recipe in recipes().recipes for quantization in recipe.quantizations]
PRESETS = {"W4A16", "W4A16_ASYM", "W8A16", "W8A8", "FP8", "FP8_DYNAMIC", "FP8_BLOCK", "NVFP4"}
"""Names in compressed-tensors 0.19's quantization/quant_scheme.py that we use."""


def made(make_plan: Any, quantization: str, engine: str = "vllm", **parts: Any) -> Any:
    path = made_path("meta-llama/Llama-3.1-8B-Instruct", quantization)
    return make_plan(engine, "cuda", quantization=quantization, model={"checkpoint": path}, **parts)


@pytest.mark.parametrize("quantization", FORMATS)
def test_the_recipe_makes_what_the_files_load(make_plan: Any, quantization: str) -> None:
    plan = made(make_plan, quantization)
    files = render(plan)
    assert {"quantize.sh", "quantize.py"} <= set(files) and set(default_files(plan)) == set(files)
    name = f"Llama-3.1-8B-Instruct-{quantization}"
    assert f"planned_name={name}\n" in files["quantize.sh"]
    assert f"realpath -- {name})" in files["docker-run.sh"]
    tree = ast.parse(files["quantize.py"])
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert values["SOURCE"] == "meta-llama/Llama-3.1-8B-Instruct" and values["SCHEME"] in PRESETS
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert {name for name in called if name[0].isupper()} <= imported
    assert ("load_dataset" in imported) is ("SAMPLES" in values) is ("GPU_GIB=" in files["quantize.sh"])


@pytest.mark.parametrize("engine", ["ollama", "llamacpp", "vllm"])
def test_gguf_is_converted_and_quantized_by_one_release(make_plan: Any, engine: str) -> None:
    choice = {"plugin": "vllm-gguf-plugin"} if engine == "vllm" else {}
    files = render(made(make_plan, "gguf:Q4_K_M", engine, choice=choice))
    script = files["quantize.sh"]
    assert "--branch b10488 " in script and "quantize.py" not in files
    assert re.search(r'llama-quantize" "\$whole" "\$OUT.partial" Q4_K_M$', script, re.MULTILINE)
    assert "imatrix" not in script and "nvidia-smi" not in script


@pytest.mark.parametrize("kind", recipes().imatrix_types)
def test_the_smallest_types_get_the_importance_matrix_that_they_demand(make_plan: Any, kind: str) -> None:
    script = render(made(make_plan, f"gguf:{kind}", "llamacpp"))["quantize.sh"]
    assert f'--imatrix "$WORK/imatrix.gguf" "$whole" "$OUT.partial" {kind}' in script
    assert "set CALIBRATION to a text file" in script


def test_whole_types_need_no_quantizer(make_plan: Any) -> None:
    script = render(made(make_plan, "gguf:BF16", "ollama"), ["quantize"])["quantize.sh"]
    assert "--outtype bf16" in script and "cmake" not in script


def test_memory_is_that_of_the_whole_model_on_the_host_and_of_layers_on_the_gpu(make_plan: Any) -> None:
    awq, gptq = (making(made(make_plan, quantization)) for quantization in ("awq", "gptq-int4"))
    model = made(make_plan, "awq").resolved.model
    assert layer_bytes(model) == 436224000  # 4 attention and 3 feed-forward linears and two norms of Llama-3.1-8B
    assert awq.host_bytes == 8 * GIB + 2 * parameter_count(model)
    assert gptq.gpu_bytes - awq.gpu_bytes == layer_bytes(model)
    assert making(made(make_plan, "fp8-dynamic")).gpu_bytes == 0


def test_routers_of_a_mixture_stay_as_they_are() -> None:
    plan = planner.recommend(model="qwen3-30b-a3b", gpus="1xH100", quantization="int8-w8a8").plan
    assert plan.best.model.checkpoint.startswith("./")
    script = render(plan, ["quantize"])["quantize.py"]
    assert "'re:.*gate$'" in script and "SmoothQuant" not in script


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({}, "as they are published"),
        ({"quantization": "bnb-nf4"}, "no recipe makes bnb-nf4"),
        ({"quantization": "awq", "spec": {"quantization": "fp8"}}, "lose quality twice"),
        ({"quantization": "awq", "spec": {"modality": "vision"}}, "quantize text models"),
        ({"quantization": "gguf:Q4_0", "spec": {"id": "/m/x.gguf"}}, "a GGUF file already"),
        ({"quantization": "awq", "model": {"checkpoint": "them/Llama-awq"}}, "them/Llama-awq is published in awq"),
        ({"quantization": "gguf:Q4_0", "model": {"ollama_tag": "llama3:8b"}}, "llama3:8b is published in gguf:Q4_0"),
    ],
)
def test_what_no_recipe_makes_is_refused(make_plan: Any, parts: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        render(make_plan("vllm", "cuda", **parts), ["quantize"])


def test_what_the_engine_makes_while_it_loads_can_be_made_once(make_plan: Any) -> None:
    plan = make_plan("vllm", "cuda", quantization="fp8-dynamic", choice={"quantization_flag": "fp8_per_channel"})
    assert "vllm also makes this format while it loads" in render(plan, ["quantize"])["quantize.sh"]


def run(recorder: Any, files: dict[str, str], folder: Path, **environment: str) -> Any:
    for path in ("quantize.sh", "quantize.py"):
        (folder / path).write_text(files.get(path, ""))
    links = 'for tool in pip python; do ln -sf "$(command -v $tool)" "$3/bin/$tool"; done'
    recorder.stand_in("python3", f'mkdir -p "$3/bin"; {links}')
    recorder.stand_in("pip")
    recorder.stand_in("python", 'mkdir "$2"')
    recorder.stand_in("nvidia-smi", "printf '24000\\n81559\\n'")
    return recorder.run(str(folder / "quantize.sh"), **{"HF_TOKEN": "x", "FORCE": "1", **environment})


def test_the_script_installs_pinned_packages_and_moves_a_whole_result_into_place(
    make_plan: Any, recorder: Any, tmp_path: Path
) -> None:
    files = render(made(make_plan, "awq"), ["quantize"])
    done = run(recorder, files, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "Llama-3.1-8B-Instruct-awq").is_dir()
    assert not (tmp_path / "Llama-3.1-8B-Instruct-awq.partial").exists()
    (words,) = recorder.calls("pip")
    assert "llmcompressor==0.14.0.1" in words
    again = run(recorder, files, tmp_path)
    assert again.returncode == 0 and "is there already" in again.stdout and len(recorder.calls("pip")) == 1


def test_a_machine_that_is_too_small_is_told_before_anything_is_fetched(
    make_plan: Any, recorder: Any, tmp_path: Path
) -> None:
    files = render(made(make_plan, "gptq-int4"), ["quantize"])
    files["quantize.sh"] = files["quantize.sh"].replace("GPU_GIB=", "GPU_GIB=9")
    files["quantize.sh"] = re.sub(r"HOST_GIB=\d+", "HOST_GIB=0", files["quantize.sh"])
    files["quantize.sh"] = re.sub(r"DISK_GIB=\d+", "DISK_GIB=0", files["quantize.sh"])
    done = run(recorder, files, tmp_path, FORCE="")
    assert done.returncode == 1 and "memory of the largest GPU: 79 GiB" in done.stderr
    assert not recorder.calls("pip")


@pytest.mark.parametrize("model", ["llama3-8b", "llama3.1-8b", "qwen3-8b"])
def test_a_tag_of_ollamas_library_is_not_what_another_engine_loads(model: str) -> None:
    plan = planner.recommend(model=model, gpus="1xA100", engine="vllm", quantization="Q4_K_M").plan
    best, known = plan.best, plan.resolved.model.checkpoints
    repositories: set[str | None] = {c.repo for c in known if c.quantization == "gguf:Q4_K_M" and c.repo}
    assert best.model.ollama_tag is None
    assert best.model.checkpoint in (repositories or {made_path(best.model.id, "gguf:Q4_K_M")})
    assert any("target quantize" in caution for caution in plan.cautions) is not bool(repositories)
