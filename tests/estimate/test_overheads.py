"""Laws of what engines take besides weights and KV, against start-up logs."""

from __future__ import annotations

import pytest

from planner.estimate.overheads import gaudi, tgi, vllm
from planner.estimate.overheads.host import metal_bytes, system_bytes
from planner.estimate.overheads.llamacpp import compute_buffer_bytes
from planner.estimate.overheads.widths import widths
from planner.sources.catalog import Catalog
from planner.units import GIB, MIB


def coefficients(catalog: Catalog, engine: str, version: str = "", **changes: float) -> dict[str, float]:
    release = next(r for r in catalog.releases(engine) if r.version.startswith(version))
    assert release.memory is not None
    return {**release.memory.coefficients, **changes}


def vllm_overheads(
    catalog: Catalog, model: str, k: dict[str, float], *, tp: int = 1, ep: int = 1, tokens: int = 8192, rows: int = 1024
) -> vllm.Overheads:
    spec = catalog.model(model)
    return vllm.overheads(
        spec,
        k,
        tp=tp,
        ep=ep,
        layers=spec.n_layers,
        first_stage=True,
        last_stage=True,
        world=tp,
        max_num_batched_tokens=tokens,
        max_num_seqs=rows,
        max_model_len=8192,
        graph_max_size=512,
        hybrid=False,
        multimodal=any(block.role == "vision" for block in spec.blocks),
    )


@pytest.mark.parametrize(
    ("model", "gib"),
    [
        ("meta-llama/Llama-3.2-3B", 0.828), ("meta-llama/Llama-3.1-8B", 1.100), ("Qwen/Qwen2.5-14B", 1.607),
        ("google/gemma-2-9b", 1.818),
    ],
)  # fmt: skip
def test_the_first_profile_holds_a_copy_of_the_embeddings(catalog: Catalog, model: str, gib: float) -> None:
    """vLLM 0.26 on one H100 or H200, 8,192 tokens and 1,024 sequences."""
    found = vllm_overheads(catalog, model, coefficients(catalog, "vllm", "0.26"))
    assert found.activation_bytes / GIB == pytest.approx(gib, rel=0.004)
    assert "embeddings" in found.activation_formula


@pytest.mark.parametrize(
    ("model", "kind", "gib"),
    [
        ("openai/gpt-oss-20b", {"fused_experts": True}, 2.917),  # no workspace beside the sampler
        ("openai/gpt-oss-120b", {"fused_experts": True}, 2.916),
        ("deepseek-ai/DeepSeek-V2-Lite", {"second_runner": True}, 1.659),  # its first layer runs before the experts
        ("Qwen/Qwen3-30B-A3B", {}, 3.206),
    ],
)
def test_activation_peak_of_experts_is_that_of_the_log(
    catalog: Catalog, model: str, kind: dict[str, bool], gib: float
) -> None:
    """vLLM 0.26 on one H200, 16,384 tokens and 1,024 sequences."""
    spec = catalog.model(model)
    found = vllm.overheads(
        spec,
        coefficients(catalog, "vllm", "0.26"),
        tp=1,
        ep=1,
        layers=spec.n_layers,
        first_stage=True,
        last_stage=True,
        world=1,
        max_num_batched_tokens=16384,
        max_num_seqs=1024,
        max_model_len=20480,
        graph_max_size=512,
        hybrid=False,
        multimodal=False,
        **kind,
    )
    assert found.activation_bytes / GIB == pytest.approx(gib, rel=0.07)


@pytest.mark.parametrize("largest", [1, 3, 4, 8, 100, 255, 256, 271, 272, 512])
def test_capture_sizes_count_the_list_that_vllm_builds(largest: int) -> None:
    sizes = [s for s in (1, 2, 4, *range(8, 256, 8), *range(256, largest + 1, 16)) if s <= largest]
    assert vllm.capture_sizes(largest) == len(sizes)


# vLLM 0.19 on one H100 (Mixtral on two), 8192 tokens, 1024 sequences: peak activation as logged, GiB.
@pytest.mark.parametrize(
    ("model", "tp", "gib"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 1, 1.89),
        ("Qwen/Qwen2.5-14B-Instruct", 1, 2.25),
        ("Qwen/Qwen3-8B", 1, 2.21),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 2, 1.21),
        ("microsoft/phi-4", 1, 1.52),
        ("google/gemma-3-27b-it", 1, 3.94),
        ("Qwen/Qwen3-30B-A3B", 1, 2.68),
    ],
)
def test_activation_peak_of_the_v1_runner_over_architectures(catalog: Catalog, model: str, tp: int, gib: float) -> None:
    k = coefficients(catalog, "vllm", "0.26", v2_runner_dense=0, v2_runner_moe=0, v2_runner_hybrid=0)
    found = vllm_overheads(catalog, model, k, tp=tp).activation_bytes / GIB
    assert found == pytest.approx(gib, abs=0.03)


# vLLM 0.26.0 on one H200, 1024 sequences: peak activation, graphs and non-torch memory as logged, GiB.
@pytest.mark.parametrize(
    ("model", "tokens", "activation", "graphs", "runtime"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 16384, 1.78, 0.99, 0.22),
        ("meta-llama/Llama-3.1-8B-Instruct", 8192, 1.10, 0.98, 0.22),
        ("meta-llama/Llama-3.1-70B-Instruct", 16384, 3.43, 2.11, 0.22),
        ("Qwen/Qwen3-30B-A3B", 16384, 3.21, 0.80, 0.24),
    ],
)
def test_overheads_of_0_26_on_h200(
    catalog: Catalog, model: str, tokens: int, activation: float, graphs: float, runtime: float
) -> None:
    found = vllm_overheads(catalog, model, coefficients(catalog, "vllm", "0.26"), tokens=tokens)
    assert found.activation_bytes / GIB == pytest.approx(activation, abs=0.05)
    assert found.graphs_bytes / GIB == pytest.approx(graphs, abs=0.02)
    assert found.runtime_bytes / GIB == pytest.approx(runtime, abs=0.005)


def test_which_runner_decides_whether_graphs_are_deducted(catalog: Catalog) -> None:
    old, new = coefficients(catalog, "vllm", "0.26"), coefficients(catalog, "vllm", "0.33")
    dense, moe = "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-30B-A3B"
    assert vllm_overheads(catalog, dense, old).deducted_graphs_bytes == 0
    assert vllm_overheads(catalog, moe, old).deducted_graphs_bytes / GIB == pytest.approx(0.64, abs=0.01)
    for model in (dense, moe):
        found = vllm_overheads(catalog, model, new)
        assert found.deducted_graphs_bytes == found.graphs_bytes > 0


def test_expert_workspace_grows_with_tokens_and_top_k_not_with_experts(catalog: Catalog) -> None:
    w = widths(catalog.model("Qwen/Qwen3-30B-A3B"), 1, 1)
    assert (w.moe_rows, w.moe_first, w.moe_second) == (8, 2048, 2048)
    sliced, whole = (
        widths(catalog.model("Qwen/Qwen3-235B-A22B"), 8, 1),
        widths(catalog.model("Qwen/Qwen3-235B-A22B"), 8, 8),
    )
    assert sliced.moe_intermediate * 8 == whole.moe_intermediate == 1536


@pytest.mark.parametrize(
    "model", ["meta-llama/Llama-3.1-70B-Instruct", "Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-R1"]
)
def test_activation_shrinks_with_tensor_parallel_and_grows_with_tokens(catalog: Catalog, model: str) -> None:
    k = coefficients(catalog, "vllm", "0.33")
    peak = {tp: vllm_overheads(catalog, model, k, tp=tp, tokens=16384).activation_bytes for tp in (1, 2, 4, 8)}
    assert peak[1] >= peak[2] >= peak[4] >= peak[8]
    assert vllm_overheads(catalog, model, k, tokens=32768).activation_bytes > peak[1]


def test_only_the_last_stage_has_logits(catalog: Catalog) -> None:
    spec, k = catalog.model("Qwen/Qwen3-8B"), coefficients(catalog, "vllm", "0.33")
    first, last = (
        vllm.overheads(
            spec, k, tp=1, ep=1, layers=18, first_stage=False, last_stage=last, world=2, max_num_batched_tokens=2048,
            max_num_seqs=1024, max_model_len=8192, graph_max_size=512, hybrid=False, multimodal=False,
        )
        for last in (False, True)
    )  # fmt: skip
    assert last.activation_bytes - first.activation_bytes > 0.9 * GIB


def test_several_devices_pay_for_communication_buffers(catalog: Catalog) -> None:
    k = coefficients(catalog, "vllm", "0.33")
    one, two = (vllm_overheads(catalog, "Qwen/Qwen3-8B", k, tp=tp).runtime_bytes for tp in (1, 2))
    assert two / GIB == pytest.approx(2.1, abs=0.1)
    assert one < 0.3 * GIB


# llama.cpp load logs: compute buffer of the device with the output head, MiB.
@pytest.mark.parametrize(
    ("model", "context", "flash", "output", "mib"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 8192, True, True, 258.50),
        ("Qwen/Qwen3-30B-A3B", 32768, True, True, 304.75),
        ("Qwen/Qwen3-235B-A22B", 16384, True, True, 312.75),
        ("google/gemma-3-27b-it", 8192, True, True, 522.62),
        ("Qwen/Qwen3-235B-A22B", 16384, True, False, 144.00),
        ("meta-llama/Llama-3.1-70B-Instruct", 8192, False, True, 1104.00),
        ("meta-llama/Llama-3.1-8B-Instruct", 131072, False, True, 8480.00),
    ],
)
def test_llamacpp_compute_buffer(
    catalog: Catalog, model: str, context: int, flash: bool, output: bool, mib: float
) -> None:
    found = compute_buffer_bytes(
        catalog.model(model), cells=context, n_ubatch=512, flash_attention=flash, has_output=output
    )
    assert found / MIB == pytest.approx(mib, abs=0.2)


# recommendedMaxWorkingSetSize of Macs with default settings: GiB of RAM, bytes.
@pytest.mark.parametrize(
    ("ram_gib", "limit_mb"),
    [(16, 11453.25), (18, 14302.25), (32, 22906.50), (36, 28991.03), (48, 40200.90), (96, 73728 * 1.048576)],
)
def test_metal_limit_is_never_above_what_macos_gives(ram_gib: int, limit_mb: float) -> None:
    found = metal_bytes(ram_gib * GIB)
    assert found <= limit_mb * 1e6 * 1.0001
    assert found >= limit_mb * 1e6 * 0.89


def test_system_share_has_a_floor() -> None:
    assert system_bytes(4 * GIB) == system_bytes(8 * GIB) == 3 * GIB // 2
    assert 7 * GIB < system_bytes(121 * GIB) < 9 * GIB


def test_gaudi_profile_of_an_8b_model(catalog: Catalog) -> None:
    """The vllm-gaudi documentation logs 355 MiB for it."""
    found = gaudi.overheads(
        catalog.model("meta-llama/Llama-3.1-8B-Instruct"),
        coefficients(catalog, "vllm", "0.26"),
        tp=1, ep=1, tokens=2048, rows=256, world=1,
    )  # fmt: skip
    assert found.activation_bytes / MIB == pytest.approx(355, rel=0.1)
    assert found.runtime_bytes == 0


def test_tgi_warm_up_grows_with_prefill_tokens(catalog: Catalog) -> None:
    model, k = catalog.model("meta-llama/Llama-3.1-8B-Instruct"), coefficients(catalog, "tgi")
    small, large = (
        tgi.overheads(model, k, tp=1, prefill_tokens=n, max_model_len=8192).activation_bytes for n in (4096, 16384)
    )
    assert large - small == 12288 * (3 * 14336 + 3 * 4096) * 2
    assert k["free_memory_factor"] == 0.9
