"""docker-run.sh is run with a stand-in for docker: what counts is the words that docker gets."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.errors import UsageError
from planner.render import render
from planner.render.launch import plan_launch
from planner.spec.plan import Plan

NASTY = st.text(alphabet="'\"\\`$(){}[]<>|&;#!*?~%:, \n/.ab1é", min_size=1, max_size=30).filter(
    lambda text: bool(text.strip()) and not text.startswith("-")
)


def start(recorder: Any, plan: Plan, folder: Path, **environment: str) -> list[list[str]]:
    """Run the script; the words of each `docker run`."""
    folder.mkdir(exist_ok=True)
    for path, text in render(plan, ["docker"]).items():
        (folder / path).write_text(text)
    done = recorder.run(str(folder / "docker-run.sh"), **environment)
    assert done.returncode == 0, done.stderr
    return [words for words in recorder.calls("docker") if words[0] == "run"]


def options(words: list[str], name: str) -> list[str]:
    return [words[i + 1] for i, word in enumerate(words) if word == name]


def test_bash_accepts_it(any_plan: Plan, bash: str, tmp_path: Path) -> None:
    for path, text in render(any_plan).items():
        if path.endswith(".sh"):
            script = tmp_path / path
            script.write_text(text)
            subprocess.run([bash, "-n", str(script)], check=True)


def test_shellcheck_accepts_it(any_plan: Plan, tmp_path: Path) -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not on PATH")
    for path, text in render(any_plan).items():
        if path.endswith(".sh"):
            (tmp_path / path).write_text(text)
            subprocess.run([shellcheck, str(tmp_path / path)], check=True)


def test_the_container_gets_the_planned_words(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    plan = make_plan("vllm", "cuda")
    (words,) = start(recorder, plan, tmp_path / "out", HF_TOKEN="secret")
    at = words.index("docker.io/vllm/vllm-openai:v0.33.0")
    assert tuple(words[at + 1 :]) == plan_launch(plan).args
    assert options(words, "--publish") == ["127.0.0.1:8000:8000"]
    assert options(words, "--gpus") == ['"device=0,1"']
    assert options(words, "--shm-size") == ["4096m"]
    assert options(words, "--stop-timeout") == ["60"]
    assert options(words, "--restart") == ["unless-stopped"]
    assert "--init" in words and "--rm" not in words


def test_the_token_travels_by_environment_and_is_on_no_command_line(
    make_plan: Any, recorder: Any, tmp_path: Path
) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cr3t\n")
    (words,) = start(recorder, make_plan("vllm", "cuda"), tmp_path / "out", HF_TOKEN_FILE=str(secret))
    assert "HF_TOKEN" in options(words, "--env")
    assert not any("s3cr3t" in word for word in words)
    runs = [r for r in recorder.records() if r["words"][:1] == ["run"]]
    assert runs[0]["token"] == "s3cr3t"


def test_a_gated_model_without_a_token_stops_before_docker(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    (tmp_path / "docker-run.sh").write_text(render(make_plan("vllm", "cuda"))["docker-run.sh"])
    done = recorder.run(str(tmp_path / "docker-run.sh"))
    assert done.returncode == 1 and "gated" in done.stderr
    assert not [words for words in recorder.calls("docker") if words[0] == "run"]


@pytest.mark.parametrize(("gated", "passed"), [(False, False), (None, True)])
def test_an_open_model_gets_no_token_and_an_unknown_one_may(
    make_plan: Any, recorder: Any, tmp_path: Path, gated: bool | None, passed: bool
) -> None:
    plan = make_plan("vllm", "cuda", model={"gated": gated})
    (words,) = start(recorder, plan, tmp_path / "out", HF_TOKEN="secret")
    assert ("HF_TOKEN" in options(words, "--env")) is passed


def test_a_gguf_files_tokenizer_is_the_original_models_and_may_be_gated(make_plan: Any) -> None:
    gguf = {"checkpoint": "b/Llama-GGUF", "gated": False}
    for gated, need in ((True, "required"), (None, "optional"), (False, "none")):
        plan = make_plan("vllm", "cuda", model=gguf, quantization="gguf:Q4_K_M", spec={"gated": gated})
        assert plan_launch(plan).token == need
    assert plan_launch(make_plan("llamacpp", "cuda", model=gguf, spec={"gated": True})).token == "none"


def test_two_engines_serve_a_model_side_by_side(make_plan: Any) -> None:
    scripts = [render(make_plan(engine, "cuda"))["docker-run.sh"] for engine in ("vllm", "ollama")]
    names = [re.search(r"NAME:-([^}]+)}", script)[1] for script in scripts]  # type: ignore[index]
    assert len(set(names)) == 2
    assert not any(f"source={names[0]}" in line for line in scripts[1].splitlines())


def test_rocm_gets_its_devices(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    (words,) = start(recorder, make_plan("vllm", "rocm"), tmp_path / "out", HF_TOKEN="x")
    assert options(words, "--device") == ["/dev/kfd", "/dev/dri"]
    assert options(words, "--group-add") == ["video"] and options(words, "--ipc") == ["host"]
    assert "HIP_VISIBLE_DEVICES=0,1" in options(words, "--env")
    assert "seccomp=unconfined" in options(words, "--security-opt") and options(words, "--cap-add") == ["SYS_PTRACE"]
    assert "--gpus" not in words


def test_gaudi_gets_its_runtime_and_demands_a_digest(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    plan = make_plan("vllm", "gaudi")
    (tmp_path / "docker-run.sh").write_text(render(plan)["docker-run.sh"])
    done = recorder.run(str(tmp_path / "docker-run.sh"), HF_TOKEN="x")
    assert done.returncode == 1 and "digest" in done.stderr
    (words,) = start(recorder, plan, tmp_path / "out", HF_TOKEN="x", IMAGE="vault/vllm@sha256:00")
    assert options(words, "--runtime") == ["habana"] and options(words, "--entrypoint") == ["vllm"]
    assert "HABANA_VISIBLE_DEVICES=0,1" in options(words, "--env")
    assert words[words.index("vault/vllm@sha256:00") + 1] == "serve"


def test_a_cpu_gets_no_gpu(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    (words,) = start(recorder, make_plan("vllm", "cpu"), tmp_path / "out", HF_TOKEN="x")
    assert "--gpus" not in words and f"--kv-cache-memory-bytes={40 << 30}" in words


def test_replicas_get_their_own_devices_and_ports(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    runs = start(recorder, make_plan("vllm", "cuda", replicas=3), tmp_path / "out", HF_TOKEN="x", PORT="9000")
    assert [options(words, "--gpus")[0] for words in runs] == ['"device=0,1"', '"device=2,3"', '"device=4,5"']
    assert [options(words, "--publish")[0] for words in runs] == [f"127.0.0.1:{9000 + i}:8000" for i in range(3)]
    assert len({options(words, "--name")[0] for words in runs}) == 3


def test_a_node_runs_only_its_share_of_the_replicas(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    plan = make_plan("vllm", "cuda", tensor=4, replicas=4, machine={"devices_per_node": 8})
    runs = start(recorder, plan, tmp_path / "out", HF_TOKEN="x")
    assert len(runs) == 2


def test_a_user_that_is_not_root_owns_its_volumes(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    runs = start(recorder, make_plan("vllm", "cuda", image={"user": 2000}), tmp_path / "out", HF_TOKEN="x")
    owner, server = runs
    assert options(owner, "--entrypoint") == ["chown"] and "2000:0" in owner
    assert options(server, "--user") == ["2000:0"]


def test_ollama_creates_and_loads_the_model(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    plan = make_plan("ollama", "cuda")
    (words,) = start(recorder, plan, tmp_path / "out")
    assert "OLLAMA_NUM_PARALLEL=4" in options(words, "--env")
    mounts = [next(csv.reader([value])) for value in options(words, "--mount")]
    assert ["type=bind", f"source={tmp_path / 'out'}/Modelfile", "target=/etc/planner/Modelfile", "readonly"] in mounts
    execs = [w[2:] for w in recorder.calls("docker") if w[0] == "exec"]
    assert execs == [
        ["ollama", "create", "llama3.1-8b", "-f", "/etc/planner/Modelfile"],
        ["ollama", "run", "llama3.1-8b", ""],
    ]


@pytest.mark.parametrize("engine", ["vllm", "ollama", "llamacpp"])
def test_local_weights_are_mounted_read_only(make_plan: Any, recorder: Any, tmp_path: Path, engine: str) -> None:
    weights = tmp_path / 'my, "odd" model.gguf'
    weights.write_text("GGUF")
    plan = make_plan(engine, "cuda", model={"checkpoint": str(weights), "gated": None})
    (words,) = start(recorder, plan, tmp_path / "out")
    mounts = [next(csv.reader([value])) for value in options(words, "--mount")]
    target = str(weights) if engine == "ollama" else "/models/model.gguf"
    assert ["type=bind", f"source={weights}", f"target={target}", "readonly"] in mounts
    if engine != "ollama":
        assert "/models/model.gguf" in words


@pytest.mark.parametrize("engine", ["vllm", "tgi", "ollama", "llamacpp"])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NASTY, NASTY)
def test_hostile_names_arrive_as_one_word(
    make_plan: Any, recorder: Any, tmp_path: Path, engine: str, checkpoint: str, served: str
) -> None:
    recorder.log.unlink(missing_ok=True)
    checkpoint = "x" + checkpoint
    plan = make_plan(engine, "cuda", model={"checkpoint": checkpoint, "served_name": served, "gated": None})
    try:
        (words,) = start(recorder, plan, tmp_path / "out")
    except UsageError as error:
        assert engine == "ollama" and "Modelfile" in str(error)
        return
    if engine == "ollama":
        assert [w[4] for w in recorder.calls("docker") if w[:1] == ["exec"] and w[3] == "create"] == [served]
    else:
        assert tuple(words[-len(plan_launch(plan).args) :]) == plan_launch(plan).args
        assert any(checkpoint in word for word in words)
    assert not (tmp_path / "out" / "x").exists()
