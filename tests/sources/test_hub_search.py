"""What a repository or the whole Hub offers of a model: a GGUF by its type, ready checkpoints by trust."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from planner.errors import UnknownNameError
from planner.sources.hub_search import find_checkpoints
from planner.sources.models import resolve_model

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog


def _gguf_repo(site: Any, workshop: Any, tmp_path: Path) -> None:
    metadata, tensors = workshop.llama_gguf(5000)
    metadata["tokenizer.ggml.tokens"] = [f"token {i}" for i in range(5000)]
    files: dict[str, bytes | Path] = {}
    for kind in ("Q8_0", "Q4_K_M", "Q2_K"):
        workshop.gguf(tmp_path / f"m-{kind}.gguf", metadata, tensors)
        files[f"m-{kind}.gguf"] = tmp_path / f"m-{kind}.gguf"
    files["mmproj-m-F16.gguf"] = b"GGUF"
    site.repos["org/m-GGUF"] = workshop.repo(files, tags=("gguf", "base_model:quantized:org/m"))


def test_a_gguf_is_chosen_by_its_type(catalog: Catalog, site: Any, workshop: Any, tmp_path: Path) -> None:
    _gguf_repo(site, workshop, tmp_path)
    model, note = resolve_model(catalog, "org/m-GGUF")
    assert model.checkpoints[0].file == "m-Q4_K_M.gguf"
    assert note is not None and "of 3 GGUF files m-Q4_K_M.gguf taken" in note
    assert resolve_model(catalog, "ollama:hf.co/org/m-GGUF:Q8_0")[0].checkpoints[0].file == "m-Q8_0.gguf"
    model, note = resolve_model(catalog, "hf.co/org/m-GGUF:q8_0")
    assert model.checkpoints[0].file == "m-Q8_0.gguf"
    assert model.checkpoints[0].size_bytes == (tmp_path / "m-Q8_0.gguf").stat().st_size
    assert model.vocab_size == 5000 and model.tie_word_embeddings
    with pytest.raises(UnknownNameError, match=r"unknown GGUF type 'Q5_K_M'.*holds m-Q2_K, m-Q4_K_M, m-Q8_0"):
        resolve_model(catalog, "org/m-GGUF:Q5_K_M")


def test_ready_checkpoints_are_ranked_by_trust(catalog: Catalog, site: Any, workshop: Any, tmp_path: Path) -> None:
    _gguf_repo(site, workshop, tmp_path)
    tags = ("base_model:quantized:org/m",)
    fp8 = {**workshop.llama_config, "quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}}
    awq = {**workshop.llama_config, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 64}}
    odd = {**workshop.llama_config, "quantization_config": {"quant_method": "nobody-knows"}}
    for name, config, downloads in (
        ("stranger/m-AWQ", awq, 9000), ("RedHatAI/m-FP8-dynamic", fp8, 10), ("org/m-FP8", fp8, 1),
        ("zeta/m-odd", odd, 99999), ("other/m-AWQ", awq, 5),
    ):  # fmt: skip
        files = {"config.json": json.dumps(config).encode(), "model.safetensors": b"0" * 100}
        site.repos[name] = workshop.repo(files, tags=tags, downloads=downloads)
    site.repos["x/unrelated"] = workshop.repo({"config.json": b"{}"})
    found = find_checkpoints(catalog, "org/m")
    assert [(c.repo, c.quantization) for c in found] == [
        ("org/m-FP8", "fp8-dynamic"), ("org/m-GGUF", "gguf:Q2_K"), ("org/m-GGUF", "gguf:Q4_K_M"),
        ("org/m-GGUF", "gguf:Q8_0"), ("RedHatAI/m-FP8-dynamic", "fp8-dynamic"), ("stranger/m-AWQ", "awq"),
        ("other/m-AWQ", "awq"),
    ]  # fmt: skip
    awq_row = found[-1]
    assert (awq_row.group_size, awq_row.revision, awq_row.size_bytes) == (64, site.repos[awq_row.repo].commit, 100)


def test_a_hub_model_brings_the_quantized_checkpoints_that_the_hub_lists(
    catalog: Catalog, site: Any, workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, size = workshop.safetensors_header(workshop.llama_tensors())
    plain = {"config.json": json.dumps(workshop.llama_config).encode(), "model.safetensors": head + b"\0" * size}
    site.repos["org/tuned"] = workshop.repo(plain)
    awq = {**workshop.llama_config, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 64}}
    files = {"config.json": json.dumps(awq).encode(), "model.safetensors": b"0" * 100}
    site.repos["other/tuned-AWQ"] = workshop.repo(files, tags=("base_model:quantized:org/tuned",))
    model, _ = resolve_model(catalog, "org/tuned")
    assert [(c.repo, c.quantization) for c in model.checkpoints] == [("org/tuned", "bf16"), ("other/tuned-AWQ", "awq")]
    asked = len(site.log)
    assert resolve_model(catalog, "org/tuned")[0].checkpoints == model.checkpoints
    assert len(site.log) == asked + 1, "the search is remembered for this commit"
    monkeypatch.setenv("PLANNER_OFFLINE", "1")
    assert resolve_model(catalog, "org/tuned")[0].checkpoints == model.checkpoints


@pytest.mark.parametrize(
    ("name", "content", "quantization", "group"),
    [
        ("hf_quant_config.json", {"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}, "fp8", None),
        ("hf_quant_config.json", {"quantization": {"quant_algo": "NVFP4", "group_size": 16}}, "nvfp4", 16),
        ("quantize_config.json", {"bits": 4, "group_size": 32, "desc_act": True}, "gptq-int4", 32),
        ("quant_config.json", {"w_bit": 4, "q_group_size": 64, "zero_point": True}, "awq", 64),
    ],
)
def test_quantization_that_older_tools_wrote_beside_the_config_is_read(
    catalog: Catalog, site: Any, workshop: Any, tmp_path: Path, name: str, content: Any, quantization: str, group: Any
) -> None:
    files = {"config.json": json.dumps(workshop.llama_config).encode(), name: json.dumps(content).encode()}
    site.repos["org/quantized"] = workshop.repo(files)
    model, _ = resolve_model(catalog, "org/quantized")
    assert (model.quantization, model.quantization_group_size) == (quantization, group)
    for file, raw in files.items():
        (tmp_path / file).write_bytes(raw)
    assert resolve_model(catalog, str(tmp_path))[0].quantization == quantization


def test_a_search_that_fails_costs_nothing_but_its_answer(catalog: Catalog, site: Any, workshop: Any) -> None:
    head, size = workshop.safetensors_header(workshop.llama_tensors())
    plain = {"config.json": json.dumps(workshop.llama_config).encode(), "model.safetensors": head + b"\0" * size}
    site.repos["org/tuned"] = workshop.repo(plain)
    site.faults.append(workshop.fault("/api/models?", "503"))
    assert [c.repo for c in resolve_model(catalog, "org/tuned")[0].checkpoints] == ["org/tuned"]


def test_checkpoints_of_a_catalogued_model_come_from_the_catalog_and_the_hub(site: Any, workshop: Any) -> None:
    from planner.api import checkpoints

    awq = {**workshop.llama_config, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 64}}
    files = {"config.json": json.dumps(awq).encode(), "model.safetensors": b"0" * 100}
    base = "Qwen/Qwen3-8B"
    site.repos["someone/new-AWQ"] = workshop.repo(files, tags=(f"base_model:quantized:{base}",))
    found, unasked = checkpoints("qwen3-8b")
    assert found[0].repo == "someone/new-AWQ" and len(found) > 3 and unasked == ""
    site.faults.append(workshop.fault("/api/models?", "500"))
    found, unasked = checkpoints("qwen3-8b")
    assert "someone/new-AWQ" not in {c.repo for c in found}
    assert "catalog's only" in unasked and "500" in unasked


def test_search_is_silent_offline(catalog: Catalog, site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANNER_OFFLINE", "1")
    assert find_checkpoints(catalog, "org/m") == ()
    assert not site.log
