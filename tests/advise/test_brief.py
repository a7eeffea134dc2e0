"""Defaults are filled in and said; impossible values are refused with the limit."""

from __future__ import annotations

from typing import Any

import pytest

import planner
from planner.advise.brief import make_brief
from planner.advise.command import command
from planner.advise.split import undivided
from planner.api import make_request
from planner.errors import UsageError
from planner.sources.catalog import Catalog
from planner.sources.machines import resolve_machine
from planner.units import GIB


def brief(catalog: Catalog, gpus: str, model: str = "llama3-70b", **options: Any) -> Any:
    request = make_request(model=model, gpus=gpus, **options)
    return make_brief(request, catalog.model(model), resolve_machine(catalog, gpus, options.get("ram")))


@pytest.mark.parametrize(
    ("gpus", "concurrency", "objective"),
    [
        ("2xA100", 32, "throughput"), ("1xRTX-6000-Ada", 32, "throughput"), ("1xRTX-4090", 1, "latency"),
        ("1xM3-Max-64GB", 1, "latency"), ("cpu", 1, "latency"), ("1xJetson-AGX-Orin-64GB", 1, "latency"),
    ],
)  # fmt: skip
def test_the_default_load_fits_the_device_class(catalog: Catalog, gpus: str, concurrency: int, objective: str) -> None:
    b = brief(catalog, gpus)
    assert b.workload.concurrency == concurrency
    assert b.objective == objective
    assert any("--concurrency" in line for line in b.assumptions)


def test_the_context_leaves_room_but_never_exceeds_the_model(catalog: Catalog) -> None:
    assert brief(catalog, "2xA100").context_tokens == 8192
    assert brief(catalog, "2xA100", "llama3.1:70b", input_tokens=20_000).context_tokens == 65_536
    assert brief(catalog, "2xA100", max_model_len=2048).min_context_tokens == 2048


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_model_len": 9000}, "8,192"),
        ({"max_model_len": 1000}, "1,280"),
        ({"input_tokens": 8000, "output_tokens": 400}, "8,192"),
        ({"tensor_parallel": 3}, "valid on 2 devices: 1, 2"),
        ({"tensor_parallel": 4}, "has 2"),
        ({"pipeline_parallel": 100}, "has 2"),
        ({"arrival": "poisson"}, "--request-rate"),
    ],
)
def test_an_impossible_value_names_the_limit(catalog: Catalog, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        brief(catalog, "2xA100", **options)


def test_a_request_is_the_command_that_asks_it() -> None:
    request = make_request(
        model="a/b", gpus="2xA100", concurrency=8, ttft_ms=500, require=("openai", "grammar"), max_model_len=4096
    )
    assert command(request) == (
        "planner recommend --model a/b --gpus 2xA100 --concurrency 8 --ttft 500 --max-model-len 4096 "
        "--require openai,grammar"
    )


def test_an_embedding_model_is_refused(catalog: Catalog) -> None:
    with pytest.raises(UsageError, match="embeddings"):
        brief(catalog, "1xL4", "Qwen/Qwen3-Embedding-8B")


@pytest.mark.parametrize(
    ("model", "tensor", "reason"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", 7, "the 4 KV heads"), ("Qwen/Qwen2.5-32B-Instruct", 5, "the 8 KV heads"),
        ("meta-llama/Llama-3.2-3B-Instruct", 3, "the 8 KV heads"),
        ("Qwen/Qwen2.5-7B-Instruct", 8, "the 28 attention heads"),
        ("Qwen/Qwen3-30B-A3B", 4, ""), ("meta-llama/Meta-Llama-3-70B-Instruct", 16, ""),
    ],
)  # fmt: skip
def test_heads_kv_heads_and_columns_split_evenly_or_are_told(
    model: str, tensor: int, reason: str, catalog: Catalog
) -> None:
    """KV heads are kept several times over only where there are more devices than heads."""
    assert undivided(catalog.model(model), tensor) == reason


def test_no_machine_of_five_or_seven_is_split_over_all(catalog: Catalog) -> None:
    for model, gpus in (("qwen2.5-32b", "5xA100"), ("qwen2.5-7b", "7xA100"), ("llama3.2-3b", "3xA100")):
        best = planner.recommend(model, gpus).plan.best
        assert not undivided(catalog.model(model), best.parallelism.tensor)


@pytest.mark.parametrize(("model", "ram", "engine"), [("llama3-70b", "48GB", None), ("llama3-8b", "64GiB", "vllm")])
def test_a_container_on_a_cpu_asks_for_weights_once_and_no_more_than_there_is(
    model: str, ram: str, engine: str | None
) -> None:
    best = planner.recommend(model, "cpu", ram=ram, engine=engine).plan.best
    assert best.hardware.ram_bytes is not None
    used = sum(best.memory.bytes_of(i) for i in ("weights", "kv_cache", "activations", "runtime"))
    assert used <= best.limits.host_memory_bytes <= min(best.hardware.ram_bytes, used + 8 * GIB)
