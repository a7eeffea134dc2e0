"""Engine arguments: exact for a known plan, accepted by the release's own flag list, never injectable."""

from __future__ import annotations

from typing import Any

import pytest

import planner
from planner.render.arguments import llamacpp, ollama, tgi, vllm
from planner.render.launch import plan_launch
from planner.sources.flags import check_flags
from planner.spec.base import Provenance
from planner.spec.hardware import Cpu
from planner.spec.plan import Plan


def values(words: tuple[str, ...]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if "=" in word)


def test_vllm_gets_the_planned_limits(make_plan: Any) -> None:
    plan = make_plan("vllm", "cuda")
    assert vllm.arguments(plan.best, plan.resolved) == (
        "meta-llama/Llama-3.1-8B-Instruct",
        "--revision=0e9e39f249a16976918f6564b8830bc894c89659",
        "--served-model-name=llama3.1-8b",
        "--tensor-parallel-size=2",
        "--max-model-len=8192",
        "--max-num-seqs=64",
        "--max-num-batched-tokens=8192",
        "--gpu-memory-utilization=0.9",
    )


def test_tgi_gets_the_planned_limits(make_plan: Any) -> None:
    plan = make_plan("tgi", "cuda")
    assert tgi.arguments(plan.best, plan.resolved) == (
        "--model-id=meta-llama/Llama-3.1-8B-Instruct",
        "--revision=0e9e39f249a16976918f6564b8830bc894c89659",
        "--num-shard=2",
        "--max-input-tokens=7936",
        "--max-total-tokens=8192",
        "--max-batch-prefill-tokens=8192",
        "--max-batch-total-tokens=262144",
        "--max-concurrent-requests=64",
        "--cuda-memory-fraction=0.95",
    )


@pytest.mark.parametrize("engine", ["vllm", "tgi"])
@pytest.mark.parametrize("platform", ["cuda", "rocm", "gaudi"])
@pytest.mark.parametrize("kv_cache_dtype", ["auto", "bf16", "fp8"])
@pytest.mark.parametrize("expert", [1, 2])
def test_the_release_takes_every_flag(
    make_plan: Any, engine: str, platform: str, kv_cache_dtype: str, expert: int
) -> None:
    parts = {"tensor": 2, "pipeline": 2, "data": 2, "expert": expert} if engine == "vllm" else {"tensor": 2}
    plan: Plan = make_plan(engine, platform, kv_cache_dtype=kv_cache_dtype, parallelism=parts)
    args = plan_launch(plan).args
    assert args
    assert check_flags(plan.resolved.engine, args) == ()


def test_an_invented_flag_would_be_noticed(make_plan: Any) -> None:
    plan = make_plan("vllm", "cuda")
    assert check_flags(plan.resolved.engine, ("model", "--swap-space=4"))


def test_online_quantization_is_named_and_a_quantized_checkpoint_is_not(make_plan: Any) -> None:
    online = make_plan("vllm", "cuda", quantization="fp8", choice={"quantization_flag": "fp8"})
    assert "--quantization=fp8" in vllm.arguments(online.best, online.resolved)
    checkpoint = make_plan("vllm", "cuda", quantization="awq")
    assert not any(w.startswith("--quantization") for w in vllm.arguments(checkpoint.best, checkpoint.resolved))


def test_vllm_lets_running_requests_finish_when_it_is_stopped() -> None:
    """Its default drops them at once; the time is within what Docker and Kubernetes wait before they kill."""
    plan = planner.recommend(model="llama3-8b", gpus="1xH100", engine="vllm").plan
    (word,) = [w for w in plan_launch(plan).args if w.startswith("--shutdown-timeout=")]
    assert 0 < int(word.partition("=")[2]) < plan.best.limits.termination_grace_seconds


@pytest.mark.parametrize("engine", ["vllm", "tgi"])
def test_turing_gets_float16_because_it_has_no_bfloat16(make_plan: Any, engine: str) -> None:
    plan = make_plan(engine, "cuda", machine={"device": {"compute_capability": "7.5"}})
    words = {"vllm": vllm, "tgi": tgi}[engine].arguments(plan.best, plan.resolved)
    assert "--dtype=float16" in words
    ampere = make_plan(engine, "cuda")
    assert not any("--dtype" in w for w in {"vllm": vllm, "tgi": tgi}[engine].arguments(ampere.best, ampere.resolved))


def test_tgi_never_gets_dtype_with_quantize(make_plan: Any) -> None:
    plan = make_plan(
        "tgi",
        "cuda",
        quantization="eetq",
        choice={"quantization_flag": "eetq"},
        machine={"device": {"compute_capability": "7.5"}},
    )
    words = values(tgi.arguments(plan.best, plan.resolved))
    assert words["--quantize"] == "eetq" and "--dtype" not in words


@pytest.mark.parametrize("longest", [None, 8191, 8192, 20000])
def test_tgi_prompts_stay_below_the_total(make_plan: Any, longest: int | None) -> None:
    plan = make_plan("tgi", "cuda", limits={"max_input_tokens": longest})
    words = values(tgi.arguments(plan.best, plan.resolved))
    assert int(words["--max-input-tokens"]) < int(words["--max-total-tokens"]) == 8192


def test_tgi_listens_where_an_unprivileged_process_may(make_plan: Any) -> None:
    launch = plan_launch(make_plan("tgi", "cuda"))
    assert launch.port == 8080 and "--port=8080" in launch.args and "PORT" not in launch.environment


def test_tgi_words_with_spaces_bypass_the_entry_script_that_would_split_them(make_plan: Any) -> None:
    plain, spaced = make_plan("tgi", "cuda"), make_plan("tgi", "cuda", model={"checkpoint": "a --trust-remote-code"})
    assert plan_launch(plain).command is None
    assert plan_launch(spaced).command == ("text-generation-launcher",)


@pytest.mark.parametrize(("dtype", "word"), [("auto", None), ("fp8", "fp8"), ("bf16", "bfloat16")])
def test_vllm_kv_cache_dtype(make_plan: Any, dtype: str, word: str | None) -> None:
    plan = make_plan("vllm", "cuda", kv_cache_dtype=dtype)
    assert values(vllm.arguments(plan.best, plan.resolved)).get("--kv-cache-dtype") == word


def test_the_cpu_pool_is_an_amount_and_not_a_share(make_plan: Any) -> None:
    plan = make_plan("vllm", "cpu")
    words = vllm.arguments(plan.best, plan.resolved)
    assert not any("gpu-memory" in word for word in words)
    assert f"--kv-cache-memory-bytes={plan.best.memory.bytes_of('kv_cache')}" in words
    assert vllm.environment(plan.best, plan.resolved) == {}


def test_gaudis_tgi_is_told_the_largest_batch_without_which_it_does_not_start(make_plan: Any) -> None:
    for platform in ("cuda", "rocm", "gaudi"):
        plan = make_plan("tgi", platform)
        assert ("--max-batch-size=64" in tgi.arguments(plan.best, plan.resolved)) is (platform == "gaudi")


def test_gaudis_graphs_get_the_share_that_the_ledger_keeps_for_them() -> None:
    plan = planner.recommend(model="qwen3.5-9b", gpus="1xGaudi3", engine="vllm").plan
    launch = plan_launch(plan)
    share = plan.best.memory.bytes_of("cuda_graphs") / (
        plan.best.memory.bytes_of("cuda_graphs") + plan.best.memory.bytes_of("kv_cache")
    )
    assert float(launch.environment["VLLM_GRAPH_RESERVED_MEM"]) == pytest.approx(share, abs=0.01)
    assert launch.environment["ENABLE_EXPERIMENTAL_FLAGS"] == "true"  # Qwen3.5's hybrid layers
    cache = {volume.name: volume.path for volume in launch.volumes}["compile-cache"]
    assert launch.environment["PT_HPU_RECIPE_CACHE_CONFIG"].startswith(f"{cache},false,")


def test_an_image_with_its_own_wrapper_gets_the_launcher(make_plan: Any) -> None:
    launch = plan_launch(make_plan("vllm", "gaudi"))
    assert launch.command == ("vllm", "serve") and launch.args[0] == "meta-llama/Llama-3.1-8B-Instruct"


def test_the_old_api_server_entrypoint_takes_the_model_by_flag(make_plan: Any) -> None:
    entrypoint = ("python3", "-m", "vllm.entrypoints.openai.api_server")
    launch = plan_launch(make_plan("vllm", "cuda", image={"entrypoint": entrypoint}))
    assert launch.command is None and launch.args[0] == "--model=meta-llama/Llama-3.1-8B-Instruct"


def test_a_plugin_is_in_a_derived_image_and_not_installed_at_every_start(make_plan: Any) -> None:
    launch = plan_launch(make_plan("vllm", "cuda", choice={"plugin": "vllm-gguf-plugin==0.0.5"}))
    assert launch.command is None
    assert launch.image == "vllm-gguf-plugin:0.33.0-0.0.5"
    assert launch.derived_from == "docker.io/vllm/vllm-openai:v0.33.0"


def test_a_local_checkpoint_is_loaded_from_its_mount_without_a_revision(make_plan: Any) -> None:
    plan = make_plan("vllm", "cuda", model={"checkpoint": "/data/my model"})
    words = vllm.arguments(plan.best, plan.resolved)
    assert words[0] == "/models/model" and not any("revision" in word for word in words)


def test_ollama_multiplies_nothing_twice(make_plan: Any) -> None:
    plan = make_plan("ollama", "cuda")
    environment = ollama.environment(plan.best, plan.resolved)
    assert (
        dict(ollama.parameters(plan.best, plan.resolved))["num_ctx"] == environment["OLLAMA_CONTEXT_LENGTH"] == "8192"
    )
    assert environment["OLLAMA_NUM_PARALLEL"] == "4" and environment["OLLAMA_MAX_LOADED_MODELS"] == "1"
    assert environment["OLLAMA_MAX_QUEUE"] == "128"


@pytest.mark.parametrize(
    ("model", "source"),
    [
        ({"ollama_tag": "llama3.1:8b-instruct-q4_K_M"}, "llama3.1:8b-instruct-q4_K_M"),
        ({}, "hf.co/bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M"),
        ({"checkpoint": "/models/x.gguf"}, "/models/x.gguf"),
    ],
)
def test_ollama_says_where_the_weights_come_from(make_plan: Any, model: dict[str, str], source: str) -> None:
    assert ollama.source(make_plan("ollama", "cuda", model=model).best) == source


def test_a_library_model_keeps_its_own_stop_words(make_plan: Any) -> None:
    ours, library = make_plan("ollama", "cuda"), make_plan("ollama", "cuda", model={"ollama_tag": "llama3.1:8b"})
    assert ("stop", "<|eot_id|>") in ollama.parameters(ours.best, ours.resolved)
    assert "stop" not in dict(ollama.parameters(library.best, library.resolved))


def test_a_quantized_ollama_cache_needs_flash_attention(make_plan: Any) -> None:
    plan = make_plan("ollama", "cuda", kv_cache_dtype="q8_0")
    environment = ollama.environment(plan.best, plan.resolved)
    assert environment["OLLAMA_KV_CACHE_TYPE"] == "q8_0" and environment["OLLAMA_FLASH_ATTENTION"] == "1"


def test_a_cpu_split_is_written_down(make_plan: Any) -> None:
    plan = make_plan("ollama", "cuda", limits={"num_gpu": 20, "num_thread": 12})
    assert {"num_gpu": "20", "num_thread": "12"}.items() <= dict(ollama.parameters(plan.best, plan.resolved)).items()


def test_llama_server_shares_its_context_between_slots(make_plan: Any) -> None:
    plan = make_plan("llamacpp", "cuda", kv_cache_dtype="q8_0")
    words = llamacpp.arguments(plan.best, plan.resolved)
    pairs = dict(zip(words[::2], words[1::2], strict=True))
    assert int(pairs["--ctx-size"]) == 8192 * int(pairs["--parallel"])
    assert pairs["--cache-type-k"] == pairs["--cache-type-v"] == "q8_0"


def test_a_gguf_checkpoint_is_one_file_of_its_repository_with_the_models_tokenizer(make_plan: Any) -> None:
    plan = make_plan("vllm", "cuda", quantization="gguf:Q4_K_M", model={"checkpoint": "bartowski/x-GGUF"})
    words = vllm.arguments(plan.best, plan.resolved)
    assert words[0] == "bartowski/x-GGUF:Q4_K_M"
    assert values(words)["--tokenizer"] == "meta-llama/Llama-3.1-8B-Instruct"


@pytest.mark.parametrize(("platform", "cores"), [("cuda", 4), ("cpu", 180)])
def test_cores_follow_the_workers_or_the_cpu(make_plan: Any, platform: str, cores: int) -> None:
    cpu = Cpu(
        id="epyc",
        name="EPYC",
        vendor="amd",
        cores=96,
        mem_bandwidth_bytes_per_s=4.6e11,
        isa=("avx512",),
        fp32_flops_per_s=5e12,
        provenance=Provenance(source="https://example.org", date="2026-11-24", basis="spec"),
    )
    plan = make_plan("vllm", platform, machine={"cpu": cpu, "sockets": 2})
    assert plan_launch(plan).cpu_request == cores
