"""bench.sh: the words that curl, vLLM, GuideLLM and AIPerf get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.render import render
from planner.render.artifacts.bench import workload
from planner.spec.plan import Plan


def bench(recorder: Any, plan: Plan, folder: Path, *words: str) -> Any:
    script = folder / "bench.sh"
    script.write_text(render(plan, [])["bench.sh"])
    for tool in ("vllm", "guidellm", "aiperf"):
        recorder.stand_in(tool)
    done = recorder.run(str(script), *words)
    assert done.returncode == 0, done.stderr
    return done


def test_smoke_asks_for_the_served_model(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    bench(recorder, make_plan("tgi", "cuda", model={"served_name": "a'b\"c$(id)"}), tmp_path)
    (words,) = recorder.calls("curl")
    assert "http://127.0.0.1:8080/v1/chat/completions" in words
    assert json.loads(words[words.index("-d") + 1])["model"] == "a'b\"c$(id)"
    assert not recorder.calls("vllm")


def test_vllm_bench_gets_the_planned_load(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    plan = make_plan("vllm", "cuda", request={"input_tokens": 512, "output_tokens": 64, "concurrency": 24})
    bench(recorder, plan, tmp_path, "vllm")
    (words,) = recorder.calls("vllm")
    assert words[:2] == ["bench", "serve"] and recorder.calls("curl")
    for flag, value in {
        "--random-input-len": "512",
        "--random-output-len": "64",
        "--max-concurrency": "24",
        "--num-prompts": "120",
        "--request-rate": "inf",
        "--base-url": "http://127.0.0.1:8000",
    }.items():
        assert words[words.index(flag) + 1] == value
    assert "--ignore-eos" in words and "--served-model-name=llama3.1-8b" in words


def test_guidellm_gets_the_planned_load(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    bench(recorder, make_plan("vllm", "cuda"), tmp_path, "guidellm")
    (words,) = recorder.calls("guidellm")
    assert words[0] == "run"
    assert json.loads(words[words.index("--backend") + 1]) == {
        "kind": "openai_http",
        "model": "llama3.1-8b",
        "target": "http://127.0.0.1:8000",
    }
    assert words[words.index("--profile") + 1] == "kind=concurrent,streams=32"
    assert words[words.index("--data") + 1] == "kind=synthetic_text,prompt_tokens=1024,output_tokens=256"
    assert json.loads(words[words.index("--tokenizer") + 1])["model"] == "meta-llama/Llama-3.1-8B-Instruct"


@pytest.mark.parametrize(
    ("request_", "vllm", "guidellm", "aiperf"),
    [
        (
            {"request_rate": 2.5},
            ["--request-rate", "2.5"],
            "kind=poisson,rate=2.5",
            ["--request-rate", "2.5", "--arrival-pattern", "poisson"],
        ),
        (
            {"arrival": "burst"},
            ["--request-rate", "inf"],
            "kind=throughput,max_concurrency=32",
            ["--concurrency", "32", "--request-count", "32"],
        ),
    ],
)
def test_the_arrivals_are_the_planned_ones(
    make_plan: Any,
    recorder: Any,
    tmp_path: Path,
    request_: dict[str, Any],
    vllm: list[str],
    guidellm: str,
    aiperf: list[str],
) -> None:
    plan = make_plan("vllm", "cuda", request={"concurrency": 32} | request_)
    bench(recorder, plan, tmp_path, "vllm")
    bench(recorder, plan, tmp_path, "guidellm")
    (words,) = recorder.calls("vllm")
    at = words.index("--request-rate")
    assert words[at : at + 2] == vllm
    (words,) = recorder.calls("guidellm")
    assert words[words.index("--profile") + 1] == guidellm
    bench(recorder, plan, tmp_path, "aiperf")
    (words,) = recorder.calls("aiperf")
    at = words.index(aiperf[0])
    assert words[at : at + len(aiperf)] == aiperf


@pytest.mark.parametrize(("engine", "instruct"), [("vllm", True), ("vllm", False), ("ollama", True)])
def test_aiperf_gets_the_planned_load(
    make_plan: Any, recorder: Any, tmp_path: Path, engine: str, instruct: bool
) -> None:
    """Flags are those of aiperf 0.13's config/flags/cli_config.py."""
    bench(recorder, make_plan(engine, "cuda", spec={"instruct": instruct}), tmp_path, "aiperf")
    (words,) = recorder.calls("aiperf")
    assert words[0] == "profile" and "--streaming" in words
    for flag, value in {
        "--isl": "1024",
        "--osl": "256",
        "--concurrency": "32",
        "--request-count": "160",
        "--model": "llama3.1-8b",
        "--tokenizer": "meta-llama/Llama-3.1-8B-Instruct",
        "--endpoint-type": "chat" if instruct else "completions",
    }.items():
        assert words[words.index(flag) + 1] == value, flag
    assert ("ignore_eos:true" in words) is (engine == "vllm")


def test_without_an_asked_concurrency_the_server_is_filled(make_plan: Any) -> None:
    plan = make_plan("vllm", "cuda", replicas=2, request={"concurrency": None})
    assert workload(plan).concurrency == 128


def test_an_unknown_verb_is_a_usage_error(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    script = tmp_path / "bench.sh"
    script.write_text(render(make_plan(), [])["bench.sh"])
    done = recorder.run(str(script), "everything")
    assert done.returncode == 2 and "use: bash bench.sh" in done.stderr


@pytest.mark.parametrize(
    ("spec", "endpoint", "field"),
    [
        ({"instruct": True}, "/v1/chat/completions", "messages"),
        ({"instruct": False}, "/v1/completions", "prompt"),
        ({"modality": "embedding"}, "/v1/embeddings", "input"),
    ],
)
def test_smoke_asks_what_the_model_can_answer(
    make_plan: Any, recorder: Any, tmp_path: Path, spec: dict[str, Any], endpoint: str, field: str
) -> None:
    bench(recorder, make_plan("vllm", "cuda", spec=spec), tmp_path)
    (words,) = recorder.calls("curl")
    assert f"http://127.0.0.1:8000{endpoint}" in words
    assert field in json.loads(words[words.index("-d") + 1])
