"""Engine releases: complete, sourced, and every name in them is one that the rest of the catalog knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from planner.resources import folder
from planner.sources.catalog import load
from planner.sources.entries import read_yaml
from planner.spec.engine import EngineRelease
from planner.spec.hardware import Platform

RELEASES = load().releases()
IDS = [f"{r.engine}-{r.version}" for r in RELEASES]
FILES = sorted((folder("catalog") / "engines").glob("*/*.yaml"))
CAPABILITIES = frozenset(
    {
        *("openai_api", "native_api", "tensor_parallel", "pipeline_parallel", "data_parallel", "expert_parallel"),
        *("multi_node", "continuous_batching", "prefix_caching", "speculative_decoding", "lora", "grammar"),
        *("guaranteed_grammar", "watermark", "tool_calling", "kubernetes", "openshift", "hf_endpoints", "metrics"),
        *("cpu_offload", "layer_split", "one_command", "multimodal", "embeddings"),
    }
)


def release(engine: str, version: str) -> EngineRelease:
    return next(r for r in RELEASES if (r.engine, r.version) == (engine, version))


def runs(found: EngineRelease, platform: Platform) -> set[str]:
    return {row.quantization for row in found.support if row.platform == platform}


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_release_is_one_file_named_after_its_version(path: Path) -> None:
    data = read_yaml(path)
    assert data["schema"] == 1
    assert data["engine"] == path.parent.name
    assert str(data["version"]).startswith(path.stem)


@pytest.mark.parametrize("found", RELEASES, ids=IDS)
def test_capabilities_and_formats_are_known_words(found: EngineRelease) -> None:
    assert set(found.capabilities) <= CAPABILITIES
    formats = {f.id for f in load().formats()}
    assert {row.quantization for row in found.support} <= formats
    kv = {k.id: k for k in load().kv_formats()}
    assert set(found.kv_cache_dtypes) <= set(kv)
    assert set(found.kv_flags) <= set(found.kv_cache_dtypes)
    assert all(found.engine in kv[name].engines for name in found.kv_cache_dtypes)


@pytest.mark.parametrize("found", RELEASES, ids=IDS)
def test_images_are_pinned_and_say_where_weights_live(found: EngineRelease) -> None:
    assert found.images
    for image in found.images:
        assert re.search(r":[\w.-]+$", image.reference), image.reference
        name, tag = image.reference.rsplit(":", 1)
        assert tag != "latest" or found.version in name
        assert image.port > 0 and image.cache_path.startswith("/")
        assert not image.verified or image.provenance.basis == "measured"


@pytest.mark.parametrize("found", RELEASES, ids=IDS)
def test_every_image_platform_runs_some_format(found: EngineRelease) -> None:
    for platform in {image.platform for image in found.images} | set(found.native_platforms):
        assert runs(found, platform), platform


@pytest.mark.parametrize("found", RELEASES, ids=IDS)
def test_a_release_survives_a_plan(found: EngineRelease) -> None:
    assert EngineRelease.model_validate(found.model_dump(mode="json", exclude_defaults=True)) == found


@pytest.mark.parametrize("found", RELEASES, ids=IDS)
def test_tiers_end_in_one_that_any_device_passes(found: EngineRelease) -> None:
    if found.defaults.token_tiers:
        last = found.defaults.token_tiers[-1]
        assert last.min_memory_gib == 0 and not last.platforms and not last.excluded_names
    if found.defaults.context_tiers:
        assert min(t.min_vram_gib for t in found.defaults.context_tiers) == 0


@pytest.mark.parametrize("engine", sorted({r.engine for r in RELEASES}))
def test_an_engine_has_one_latest_release(engine: str) -> None:
    assert [r.latest for r in RELEASES if r.engine == engine].count(True) == 1


def test_compact_support_rows_become_one_row_each() -> None:
    rows = [r for r in release("ollama", "0.33.0").support if r.quantization == "gguf:Q4_K_M"]
    assert sorted(r.platform for r in rows) == ["cpu", "cuda", "metal", "rocm"]
    assert all(r.provenance.source for r in rows)


def test_tgi_is_in_maintenance_and_names_its_successors() -> None:
    lifecycle = release("tgi", "3.3.7").lifecycle
    assert (lifecycle.status, lifecycle.since) == ("maintenance", "2025-12-11")
    assert "vllm" in lifecycle.alternatives


def test_gaudi_is_served_by_the_release_that_its_plugin_pins() -> None:
    assert release("vllm", "0.33.0").image_for("gaudi") is None
    image = release("vllm", "0.26.0").image_for("gaudi")
    assert image is not None and image.runtime == "habana" and "1.24.1" in image.reference


def test_platform_lists_differ_as_the_engines_say() -> None:
    vllm, tgi = release("vllm", "0.33.0"), release("tgi", "3.3.7")
    assert "awq" in runs(vllm, "rocm") and "awq" not in runs(tgi, "rocm")
    assert runs(tgi, "gaudi") == {"bf16", "fp8", "fp8-dynamic"}
    assert "bnb-nf4" not in runs(vllm, "rocm")


def test_formats_that_left_the_core_name_their_plugin() -> None:
    vllm = release("vllm", "0.33.0")
    via = {row.quantization: row.via for row in vllm.support if row.platform == "cuda"}
    assert via["bnb-nf4"] == "vllm-bnb-plugin" and via["gguf:Q4_K_M"] == "vllm-gguf-plugin" and via["awq"] == "core"


def test_models_that_vllm_dropped_are_refused_by_both_lines() -> None:
    for version in ("0.26.0", "0.33.0"):
        assert {"mllama", "phi3small"} <= set(release("vllm", version).unsupported_model_types)


@pytest.mark.parametrize("found", RELEASES, ids=IDS)
def test_no_model_type_is_both_supported_and_not(found: EngineRelease) -> None:
    assert not set(found.supported_model_types) & set(found.unsupported_model_types)


def test_only_the_newer_vllm_writes_watermarks() -> None:
    assert release("vllm", "0.33.0").has("watermark") and not release("vllm", "0.26.0").has("watermark")
    assert release("tgi", "3.3.7").has("watermark")
