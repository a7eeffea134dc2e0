"""Plans made of spec objects, for every engine and platform, without advisor or catalog.

Longer than 400 lines because the factory and the stand-in commands must be in one conftest: test
folders are no packages.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner.spec.base import Provenance
from planner.spec.engine import Defaults, EngineRelease, Image, Lifecycle, Startup
from planner.spec.hardware import Accelerator, Machine
from planner.spec.model import Attention, Checkpoint, DenseFfn, LayerGroup, ModelSpec
from planner.spec.plan import (
    Configuration,
    Cost,
    EngineChoice,
    Figure,
    HardwareChoice,
    LedgerRow,
    Limits,
    MemoryLedger,
    ModelChoice,
    Parallelism,
    Percentiles,
    Performance,
    Plan,
    Reason,
    Resolved,
)
from planner.spec.request import Request
from planner.units import GIB
from planner.validate import custom

TOOLS = Path(sys.executable).parent
"""Console scripts of the validators are installed beside the interpreter."""

SOURCE = Provenance(source="https://example.org/facts", date="2026-11-24", basis="spec")

IMAGES: dict[tuple[str, str], dict[str, Any]] = {
    ("vllm", "cuda"): {
        "reference": "docker.io/vllm/vllm-openai:v0.33.0",
        "port": 8000,
        "entrypoint": ("vllm", "serve"),
        "cache_path": "/root/.cache/huggingface",
        "compile_cache_path": "/root/.cache/vllm",
    },
    ("vllm", "rocm"): {
        "reference": "docker.io/vllm/vllm-openai-rocm:v0.33.0",
        "port": 8000,
        "entrypoint": ("vllm", "serve"),
        "cache_path": "/root/.cache/huggingface",
        "devices": ("/dev/kfd", "/dev/dri"),
        "groups": ("video",),
        "capabilities": ("SYS_PTRACE",),
        "security_options": ("seccomp=unconfined",),
        "ipc_host": True,
    },
    ("vllm", "gaudi"): {
        "reference": "vault.habana.ai/gaudi-docker/1.24.1/ubuntu24.04/habanalabs/vllm-0.26.0-ptupstream-2.11.0:latest",
        "port": 8000,
        "entrypoint": ("python3", "-m", "entrypoints.entrypoint_main"),
        "cache_path": "/mnt/hf_cache",
        "capabilities": ("SYS_NICE",),
        "runtime": "habana",
        "ipc_host": True,
        "environment": {"HABANA_VISIBLE_DEVICES": "all", "HF_HOME": "/mnt/hf_cache"},
    },
    ("vllm", "cpu"): {
        "reference": "docker.io/vllm/vllm-openai-cpu:v0.33.0-x86_64",
        "port": 8000,
        "entrypoint": ("vllm", "serve"),
        "cache_path": "/root/.cache/huggingface",
        "capabilities": ("SYS_NICE",),
        "security_options": ("seccomp=unconfined",),
    },
    ("tgi", "cuda"): {
        "reference": "ghcr.io/huggingface/text-generation-inference:3.3.7",
        "port": 80,
        "entrypoint": ("text-generation-launcher",),
        "cache_path": "/data",
        "environment": {"PORT": "80", "HF_HOME": "/data"},
    },
    ("tgi", "rocm"): {
        "reference": "ghcr.io/huggingface/text-generation-inference:3.3.7-rocm",
        "port": 80,
        "entrypoint": ("text-generation-launcher",),
        "cache_path": "/data",
        "devices": ("/dev/kfd", "/dev/dri"),
        "groups": ("video",),
        "ipc_host": True,
    },
    ("tgi", "gaudi"): {
        "reference": "ghcr.io/huggingface/text-generation-inference:3.3.7-gaudi",
        "port": 80,
        "entrypoint": ("text-generation-launcher",),
        "cache_path": "/data",
        "capabilities": ("SYS_NICE",),
        "runtime": "habana",
        "ipc_host": True,
    },
    ("ollama", "cuda"): {
        "reference": "docker.io/ollama/ollama:0.33.0",
        "port": 11434,
        "entrypoint": ("/bin/ollama", "serve"),
        "cache_path": "/root/.ollama",
        "environment": {"OLLAMA_HOST": "0.0.0.0:11434"},
    },
    ("ollama", "rocm"): {
        "reference": "docker.io/ollama/ollama:0.33.0-rocm",
        "port": 11434,
        "entrypoint": ("/bin/ollama", "serve"),
        "cache_path": "/root/.ollama",
        "devices": ("/dev/kfd", "/dev/dri"),
        "environment": {"OLLAMA_HOST": "0.0.0.0:11434"},
    },
    ("ollama", "cpu"): {
        "reference": "docker.io/ollama/ollama:0.33.0",
        "port": 11434,
        "entrypoint": ("/bin/ollama", "serve"),
        "cache_path": "/root/.ollama",
        "environment": {"OLLAMA_HOST": "0.0.0.0:11434"},
    },
    ("llamacpp", "cuda"): {
        "reference": "ghcr.io/ggml-org/llama.cpp:server-cuda-b10488",
        "port": 8080,
        "entrypoint": ("/app/llama-server",),
        "cache_path": "/root/.cache/llama.cpp",
    },
}
VERSIONS = {"vllm": "0.33.0", "tgi": "3.3.7", "ollama": "0.33.0", "llamacpp": "b10488"}
HEALTH = {"vllm": "/health", "tgi": "/health", "ollama": "/api/version", "llamacpp": "/health"}
QUEUES = {
    "vllm": "vllm:num_requests_waiting",
    "tgi": "tgi_queue_size",
    "llamacpp": "llamacpp:requests_deferred",
}
FLAGS = {
    ("vllm", ""): "0.33.flags.json",
    ("vllm", "gaudi"): "0.26.flags.json",
    ("tgi", ""): "3.3.7.flags.json",
}
KV_FLAGS = {
    "vllm": {"bf16": "bfloat16", "fp16": "float16", "fp8": "fp8"},
    "tgi": {"fp8": "fp8_e4m3fn", "fp8_e5m2": "fp8_e5m2"},
    "ollama": {"fp16": "f16", "q8_0": "q8_0", "q4_0": "q4_0"},
    "llamacpp": {"fp16": "f16", "q8_0": "q8_0"},
}
DEVICES: dict[str, dict[str, Any]] = {
    "cuda": {
        "id": "a100-sxm4-80gb",
        "name": "A100-SXM4-80GB",
        "vendor": "nvidia",
        "architecture": "ampere",
        "compute_capability": "8.0",
        "kubernetes_resource": "nvidia.com/gpu",
        "kubernetes_product_label": "NVIDIA-A100-SXM4-80GB",
    },
    "rocm": {
        "id": "mi300x",
        "name": "MI300X",
        "vendor": "amd",
        "architecture": "cdna3",
        "kubernetes_product_label": "AMD_Instinct_MI300X_OAM",
    },
    "gaudi": {"id": "gaudi3", "name": "Gaudi 3", "vendor": "intel", "architecture": "gaudi3"},
    "metal": {"id": "m3-max", "name": "M3 Max", "vendor": "apple", "architecture": "m3", "unified_memory": True},
}
CASES = [*IMAGES, ("ollama", "metal")]
PlanFactory = Callable[..., Plan]


def figure(value: float, unit: str) -> Figure:
    return Figure(value=value, low=value * 0.8, high=value * 1.25, unit=unit, basis="fitted", n=12)


def percentiles(value: float) -> Percentiles:
    return Percentiles(
        **{k: figure(value * f, "ms") for k, f in zip(("mean", "p50", "p90", "p99"), (1, 0.9, 1.5, 2.0), strict=True)}
    )


def build_release(engine: str, platform: str) -> EngineRelease:
    facts = IMAGES.get((engine, platform))
    images = (Image(platform=platform, provenance=SOURCE, **facts),) if facts else ()
    return EngineRelease(
        engine=engine,
        version=VERSIONS[engine],
        title=engine,
        license="Apache-2.0",
        lifecycle=Lifecycle(status="active", statement="Released often.", provenance=SOURCE),
        images=images,
        native_platforms=("metal",) if platform == "metal" else (),
        defaults=Defaults(),
        support=(),
        kv_flags=KV_FLAGS[engine],
        health_path=HEALTH[engine],
        metrics_path="/metrics" if engine in QUEUES else None,
        queue_metric=QUEUES.get(engine),
        flags_file=FLAGS.get((engine, platform), FLAGS.get((engine, ""))),
        provenance=SOURCE,
    )


def build_model(**changes: Any) -> ModelSpec:
    fields: dict[str, Any] = {
        "id": "meta-llama/Llama-3.1-8B-Instruct",
        "family": "llama",
        "architecture": "LlamaForCausalLM",
        "model_type": "llama",
        "hidden_size": 4096,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
        "context_length": 131072,
        "layers": (
            LayerGroup(
                layers=tuple(range(32)),
                mixers=(Attention(heads=32, kv_heads=8, head_dim=128),),
                ffns=(DenseFfn(intermediate=14336),),
                norm_parameters=8192,
            ),
        ),
        "final_norm_parameters": 4096,
        "chat_stop": ("<|eot_id|>",),
        "checkpoints": (Checkpoint(quantization="bf16", provenance=SOURCE),),
        "provenance": SOURCE,
    }
    return ModelSpec(**(fields | changes))


def build_machine(platform: str, count: int, **changes: Any) -> Machine:
    if platform == "cpu":
        return Machine(label="cpu", accelerator=None, count=0, devices_per_node=0, **changes)
    device = Accelerator(
        platform=platform,
        memory_bytes=80 * 10**9,
        mem_bandwidth_bytes_per_s=2.039e12,
        bf16_flops_per_s=3.12e14,
        provenance=SOURCE,
        **(
            {"usable_memory_bytes": 80 * GIB, "device_class": "apple" if platform == "metal" else "datacenter"}
            | DEVICES[platform]
            | changes.pop("device", {})
        ),
    )
    per_node = changes.pop("devices_per_node", max(count, 1))
    return Machine(
        label=f"{count}x{device.name}", accelerator=device, count=count, devices_per_node=per_node, **changes
    )


def build_plan(
    engine: str = "vllm",
    platform: str = "cuda",
    *,
    tensor: int = 2,
    replicas: int = 1,
    model: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    choice: dict[str, Any] | None = None,
    machine: dict[str, Any] | None = None,
    image: dict[str, Any] | None = None,
    release: dict[str, Any] | None = None,
    request: dict[str, Any] | None = None,
    spec: dict[str, Any] | None = None,
    parallelism: dict[str, Any] | None = None,
    quantization: str | None = None,
    kv_cache_dtype: str = "auto",
    **changes: Any,
) -> Plan:
    """A plan for `engine` on `platform`; keyword dicts change the fields of its parts."""
    tensor = 1 if platform in ("cpu", "metal") or engine in ("ollama", "llamacpp") else tensor
    parallel = Parallelism(**({"tensor": tensor, "replicas": replicas} | (parallelism or {})))
    count = 0 if platform == "cpu" else parallel.devices_per_replica * parallel.replicas
    resolved_machine = build_machine(platform, count, **(machine or {}))
    built = build_release(engine, platform).model_copy(update=release or {})
    if image:
        changed = (built.images[0].model_copy(update=image),)
        built = built.model_copy(update={"images": changed})
    gguf = engine in ("ollama", "llamacpp")
    engine_choice = EngineChoice(
        **(
            {
                "name": engine,
                "version": built.version,
                "image": built.images[0].reference if built.images else None,
                "platform": platform,
            }
            | (choice or {})
        )
    )
    model_choice = ModelChoice(
        **(
            {
                "id": "meta-llama/Llama-3.1-8B-Instruct",
                "revision": "0e9e39f249a16976918f6564b8830bc894c89659",
                "checkpoint": "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF"
                if gguf
                else "meta-llama/Llama-3.1-8B-Instruct",
                "served_name": "llama3.1-8b",
                "parameters": 8_030_261_248,
                "active_parameters": 8_030_261_248,
                "license": "llama3.1",
                "gated": not gguf,
            }
            | (model or {})
        )
    )
    planned: dict[str, Any] = {
        "max_model_len": 8192,
        "max_num_seqs": 64,
        "shm_bytes": 4 * GIB,
        "host_memory_bytes": 24 * GIB,
        "disk_bytes": 40 * GIB,
        "load_seconds": 45.5,
        "startup_budget_seconds": 905,
        "termination_grace_seconds": 60,
    }
    by_engine: dict[str, dict[str, Any]] = {
        "vllm": {"max_num_batched_tokens": 8192, "gpu_memory_utilization": None if platform == "cpu" else 0.9},
        "tgi": {
            "max_input_tokens": 7936,
            "max_batch_prefill_tokens": 8192,
            "max_batch_total_tokens": 262144,
            "gpu_memory_utilization": 0.95,
        },
        "ollama": {
            "num_ctx": 8192,
            "num_parallel": 4,
            "max_num_seqs": 4,
            "max_queue": 128,
            "num_thread": 16 if platform == "cpu" else None,
        },
        "llamacpp": {"num_ctx": 8192, "num_parallel": 4, "max_num_seqs": 4},
    }
    planned |= by_engine[engine]
    size = 80 * GIB
    weights, pool = 16_060_522_496, 40 * GIB
    ledger = MemoryLedger(
        device=resolved_machine.label,
        device_bytes=size,
        rows=(
            LedgerRow(item="weights", bytes=weights, formula="P × 2 / tp", why="bf16 weights", basis="exact"),
            LedgerRow(item="kv_cache", bytes=pool, formula="rest", why="paged pool | all layers", basis="exact"),
            LedgerRow(item="free", bytes=size - weights - pool, formula="device − rows", why="left", basis="exact"),
        ),
        kv_cache_tokens=pool // 131072,
        kv_bytes_per_token=131072,
        largest_context_tokens=131072,
        concurrent_sequences=40,
        fits=True,
    )
    best = Configuration(
        engine=engine_choice,
        model=model_choice,
        hardware=HardwareChoice(
            label=resolved_machine.label,
            accelerator=resolved_machine.accelerator.id if resolved_machine.accelerator else None,
            count=count,
            platform=platform,
        ),
        quantization=quantization or ("gguf:Q4_K_M" if gguf else "bf16"),
        kv_cache_dtype=kv_cache_dtype,
        parallelism=parallel,
        limits=Limits(**(planned | (limits or {}))),
        memory=ledger,
        performance=Performance(
            ttft_ms=percentiles(52.0),
            itl_ms=percentiles(14.0),
            output_tokens_per_s=figure(2103.4567, "tokens/s"),
            total_tokens_per_s=figure(9000.1, "tokens/s"),
            requests_per_s=figure(8.2, "requests/s"),
            effective_concurrency=31.5,
        ),
        cost=Cost(usd_per_hour=None, usd_per_million_output_tokens=None, source="no price is known"),
        meets_slo=True,
        score=1234.5678,
        reasons=(Reason(subject="engine", choice=engine, because="the guide prefers it", rule="production"),),
    )
    fields: dict[str, Any] = {
        "planner_version": "0.1.0",
        "request": Request(
            **({"model": "llama3.1-8b", "gpus": resolved_machine.label, "concurrency": 32} | (request or {}))
        ),
        "best": best,
        "assumptions": ("concurrency 32 is the default of data-centre devices",),
        "cautions": ("TTFT has a wide band",),
        "resolved": Resolved(
            model=build_model(**(spec or {})),
            machine=resolved_machine,
            engine=built,
            model_sha256="a" * 64,
            machine_sha256="b" * 64,
            engine_sha256="c" * 64,
        ),
    }
    return Plan(**(fields | changes))


@pytest.fixture(scope="session")
def draining() -> Startup:
    """Of a release that is told how long running requests may take when it is stopped."""
    return Startup(
        engine_start_s=1,
        storage_read_bytes_per_s=1e9,
        download_bytes_per_s=1e8,
        host_base_bytes=1,
        host_bytes_per_device=1,
        drain_s=30,
        drain_flag="--shutdown-timeout",
        provenance=SOURCE,
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest tests/render --update-golden` rewrites tests/golden/."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the stored artifacts of tests/golden")


@pytest.fixture(scope="session")
def make_plan() -> PlanFactory:
    """`make_plan(engine, platform, **parts)`."""
    return build_plan


@pytest.fixture(params=CASES, ids="-".join)
def any_plan(request: pytest.FixtureRequest) -> Plan:
    """A plan for each engine and platform that has one."""
    return build_plan(*request.param)


# --- the real tools ------------------------------------------------------------------------------


def _tool(name: str) -> str:
    for candidate in (TOOLS / name, *(Path(p) for p in filter(None, [shutil.which(name)]))):
        if candidate.exists():
            return str(candidate)
    pytest.skip(f"{name} is not installed (extra `validate`)")


@pytest.fixture(scope="session")
def helm() -> str:
    return _tool("helm")


@pytest.fixture(scope="session")
def docker_compose() -> str:
    return _tool("docker-compose")


@pytest.fixture(scope="session")
def hadolint() -> str:
    return _tool("hadolint")


@pytest.fixture(scope="session")
def shellcheck() -> str:
    return _tool("shellcheck")


@pytest.fixture(scope="session")
def bash() -> str:
    return _tool("bash")


class Recorder:
    """A folder of stand-in commands that write down the words they were called with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder / "bin", folder / "calls"
        self.folder.mkdir(parents=True, exist_ok=True)

    def stand_in(self, name: str, body: str = "exit 0") -> None:
        script = self.folder / name
        script.write_text(
            f"#!{sys.executable} -I\n"
            "import json, os, subprocess, sys\n"
            f"record = {{'name': {name!r}, 'words': sys.argv[1:], 'token': os.environ.get('HF_TOKEN')}}\n"
            f"open({str(self.log)!r}, 'a').write(json.dumps(record) + chr(10))\n"
            f"sys.exit(subprocess.run(['/bin/sh', '-c', {body!r}, *sys.argv]).returncode)\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)

    def run(self, script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder}{os.pathsep}/usr/bin{os.pathsep}/bin"
        return subprocess.run(
            [_tool("bash"), script, *words],
            env={"PATH": path, "HOME": str(self.folder), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self, name: str) -> list[list[str]]:
        return [call["words"] for call in self.records() if call["name"] == name]

    def records(self) -> list[dict[str, Any]]:
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    """`docker` and `curl` that succeed and remember."""
    made = Recorder(tmp_path / "stand-ins")
    made.stand_in("docker", 'case "$1" in inspect) echo 0 ;; esac')
    made.stand_in("curl")
    return made


def write_all(files: Mapping[str, str], folder: Path) -> Path:
    """Plain writing, for tests of contents (planner's own `save` has its own tests)."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return folder


# --- Kubernetes objects of every kind -------------------------------------------------------------


def _strictly(document: dict[str, Any]) -> None:
    """Core objects by Kubernetes' schemas, custom ones by ours, the pods inside by Kubernetes' again."""
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    if not custom.has_schema(document):
        for version in ("1.28", "1.35", "1.36", "1.37"):
            validator.validate(document, version, strict=True)
        return
    assert custom.problems(document) == ()
    for spec in custom.pods(document):
        wrapped = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}
        validator.validate(wrapped, "1.37", strict=True)


@pytest.fixture(scope="session")
def objects_of() -> Callable[[str], dict[str, dict[str, Any]]]:
    """`objects_of(text)` checks every document strictly and gives kind → object."""

    def read(text: str) -> dict[str, dict[str, Any]]:
        documents = [document for document in yaml.safe_load_all(text) if document]
        for document in documents:
            _strictly(document)
            assert "namespace" not in document["metadata"]
        return {document["kind"]: document for document in documents}

    return read


@pytest.fixture(scope="session")
def variables_of() -> Callable[[str], dict[str, str]]:
    """`variables_of(text)`: what the first container of a file's first pod finds in its environment.

    Its ConfigMap's values as they are, then its own, in which Kubernetes reads `$$` as one dollar.
    """

    def read(text: str) -> dict[str, str]:
        documents = [document for document in yaml.safe_load_all(text) if document]
        maps = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
        server = next(pod for document in documents for pod in custom.pods(document))["containers"][0]
        found: dict[str, str] = {}
        for source in server.get("envFrom", ()):
            found |= maps[source["configMapRef"]["name"]]
        return found | {e["name"]: e["value"].replace("$$", "$") for e in server.get("env", ()) if "value" in e}

    return read
