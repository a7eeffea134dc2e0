"""Which format runs where, natively or widened, and what people's names for formats mean to an engine."""

from __future__ import annotations

import pytest

from planner.advise.support import kernel_for, resolve_quantization
from planner.errors import UnknownNameError
from planner.sources.catalog import load
from planner.sources.machines import resolve_machine
from planner.spec.engine import EngineRelease
from planner.spec.hardware import Machine

CATALOG = load()
RELEASES = {f"{r.engine}-{r.version}": r for r in CATALOG.releases()}


def machine(gpus: str) -> Machine:
    return resolve_machine(CATALOG, gpus)


@pytest.mark.parametrize(
    ("release", "gpus", "quantization", "native"),
    [
        ("vllm-0.33.0", "1xH100-SXM", "bf16", True),
        ("vllm-0.33.0", "1xH100-SXM", "fp8", True),
        ("vllm-0.33.0", "1xL4", "fp8", True),
        ("vllm-0.33.0", "1xA100", "fp8", False),
        ("vllm-0.33.0", "1xT4", "fp8", False),
        ("vllm-0.33.0", "1xA100", "awq", False),
        ("vllm-0.33.0", "1xA100", "int8-w8a8", True),
        ("vllm-0.33.0", "1xH100-SXM", "nvfp4", False),
        ("vllm-0.33.0", "1xB200", "nvfp4", True),
        ("vllm-0.33.0", "1xB200", "mxfp4", True),
        ("vllm-0.33.0", "1xH100-SXM", "mxfp4", False),
        ("vllm-0.33.0", "1xMI300X", "fp8", True),
        ("vllm-0.33.0", "1xMI300X", "mxfp4", False),
        ("vllm-0.33.0", "1xMI355X", "mxfp4", True),
        ("vllm-0.26.0", "1xGaudi2", "bf16", True),
        ("vllm-0.33.0", "cpu", "bf16", True),
        ("tgi-3.3.7", "1xA100", "eetq", False),
        ("ollama-0.33.0", "1xV100-SXM2-16GB", "gguf:Q4_K_M", True),
        ("ollama-0.33.0", "1xM3-Max-64GB", "gguf:Q4_K_M", True),
        ("ollama-0.33.0", "cpu", "gguf:Q8_0", True),
    ],
)
def test_supported_formats_say_how_the_multiply_runs(release: str, gpus: str, quantization: str, native: bool) -> None:
    found = kernel_for(RELEASES[release], machine(gpus), quantization)
    assert not isinstance(found, str), found
    assert (found[0].quantization, found[1]) == (quantization, native)


@pytest.mark.parametrize(
    ("release", "gpus", "quantization", "reason"),
    [
        ("vllm-0.33.0", "1xT4", "bf16", "T4 has 7.5"),
        ("vllm-0.33.0", "1xV100-SXM2-16GB", "awq", "needs compute capability 7.5"),
        ("vllm-0.33.0", "1xV100-SXM2-16GB", "gptq-int4", "needs compute capability 7.5"),
        ("vllm-0.33.0", "1xT4", "mxfp4", "needs compute capability 8.0"),
        ("vllm-0.33.0", "1xB200", "int8-w8a8", "has kernels up to compute capability 9.0"),
        ("vllm-0.33.0", "1xMI250X", "fp8", "runs on gfx942, gfx950"),
        ("vllm-0.33.0", "1xMI300X", "bnb-nf4", "has no bnb-nf4 kernel on rocm; it has one on cuda"),
        ("vllm-0.33.0", "1xGaudi2", "bf16", "has no bf16 kernel on gaudi"),
        ("vllm-0.33.0", "1xM3-Max-64GB", "bf16", "has no bf16 kernel on metal"),
        ("tgi-3.3.7", "1xMI300X", "awq", "has no awq kernel on rocm"),
        ("tgi-3.3.7", "1xT4", "fp16", "needs compute capability 8.0"),
        ("ollama-0.33.0", "1xH100-SXM", "awq", "has no awq kernel on cuda"),
    ],
)
def test_a_refusal_says_why(release: str, gpus: str, quantization: str, reason: str) -> None:
    found = kernel_for(RELEASES[release], machine(gpus), quantization)
    assert isinstance(found, str)
    assert reason in found and release.split("-", 1)[0] in found


@pytest.mark.parametrize("accelerator", [a for a in CATALOG.accelerators() if a.plannable], ids=lambda a: a.id)
def test_every_plannable_accelerator_runs_something(accelerator: object) -> None:
    place = machine(f"1x{getattr(accelerator, 'id')}")  # noqa: B009
    formats = [f.id for f in CATALOG.formats()]
    ran = [r.engine for r in RELEASES.values() if any(not isinstance(kernel_for(r, place, f), str) for f in formats)]
    assert ran, place.label


@pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)
def test_a_gated_cuda_format_runs_from_its_gate_on(release: EngineRelease) -> None:
    devices = [a for a in CATALOG.accelerators() if a.platform == "cuda" and a.plannable and a.sm is not None]
    for row in (r for r in release.support if r.platform == "cuda"):
        for device in devices:
            found = kernel_for(
                release, Machine(label="x", accelerator=device, count=1, devices_per_node=1), row.quantization
            )
            assert device.sm is not None
            low = row.min_compute_capability is None or device.sm >= round(row.min_compute_capability * 10)
            high = row.max_compute_capability is None or device.sm <= round(row.max_compute_capability * 10)
            assert isinstance(found, str) != (low and high), (device.id, row.quantization)


@pytest.mark.parametrize(
    ("name", "engine", "meant"),
    [
        ("int4", "vllm", "awq"),
        ("int4", "ollama", "gguf:Q4_K_M"),
        ("INT8", "vllm", "int8-w8a8"),
        ("int8", "tgi", "eetq"),
        ("int8", "ollama", "gguf:Q8_0"),
        ("bf16", "vllm", "bf16"),
        ("bf16", "ollama", "gguf:BF16"),
        ("mxfp4", "vllm", "mxfp4"),
        ("mxfp4", "ollama", "gguf:MXFP4"),
        ("Q4_K_M", "ollama", "gguf:Q4_K_M"),
        ("q4_k_m", "vllm", "gguf:Q4_K_M"),
        ("Q4_K", "llamacpp", "gguf:Q4_K_M"),
        ("awq-int4", "vllm", "awq"),
        ("gguf:q8_0", "ollama", "gguf:Q8_0"),
        ("nf4", "tgi", "bnb-nf4"),
    ],
)
def test_a_name_means_what_its_engine_means_by_it(name: str, engine: str, meant: str) -> None:
    assert resolve_quantization(name, engine, CATALOG) == meant


@pytest.mark.parametrize(("name", "near"), [("awg", "awq"), ("Q4_K_X", "Q4_K"), ("int44", "int4")])
def test_an_unknown_format_names_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        resolve_quantization(name, "vllm", CATALOG)
    assert near in str(caught.value)
