"""Models on disk become specs that fit their bytes exactly."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import planner
from planner.errors import FormatError, InfeasibleError, UsageError
from planner.estimate.tensors import parameter_count
from planner.estimate.weights import PLAIN, weight_bytes
from planner.sources.models import resolve_model

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.model import ModelSpec


def at(catalog: Catalog, path: Path) -> ModelSpec:
    return resolve_model(catalog, str(path), offline=True)[0]


def plain_bytes(catalog: Catalog, model: ModelSpec) -> int:
    """Bytes of the checkpoint as the ledger's arithmetic has them, prediction blocks and buffers left out."""
    return weight_bytes(model, catalog.format(model.quantization), rules=PLAIN)


# -- known architectures --------------------------------------------------------------------------


def test_a_fine_tune_matches_its_files_byte_for_byte(catalog: Catalog, workshop: Any, tmp_path: Path) -> None:
    data = workshop.folder(tmp_path / "tuned", workshop.llama_config, workshop.llama_tensors())
    model = at(catalog, tmp_path / "tuned")
    assert plain_bytes(catalog, model) == data
    assert parameter_count(model) == data // 2 == model.parameters
    (checkpoint,) = model.checkpoints
    assert checkpoint.size_bytes == (tmp_path / "tuned" / "model.safetensors").stat().st_size
    assert checkpoint.stored is not None and checkpoint.stored.total == data
    assert checkpoint.stored.layers[0] == checkpoint.stored.layers[1] > 0
    assert checkpoint.repo == model.id == str(tmp_path / "tuned")
    assert model.assumptions == ()


def test_llama_3_8b_with_its_real_shapes_has_its_published_size(
    catalog: Catalog, workshop: Any, tmp_path: Path
) -> None:
    config = {**workshop.llama_config, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
              "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256}  # fmt: skip
    tensors = workshop.llama_tensors(32, 4096, 14336, 128256, 1024)
    assert workshop.folder(tmp_path / "m", config, tensors) == 16_060_522_496
    assert plain_bytes(catalog, at(catalog, tmp_path / "m")) == 16_060_522_496


def test_sharded_files_are_read_through_their_index(catalog: Catalog, workshop: Any, tmp_path: Path) -> None:
    names = list(workshop.llama_tensors().items())
    halves = {"model-00001-of-00002.safetensors": dict(names[:9]), "model-00002-of-00002.safetensors": dict(names[9:])}
    data = sum(workshop.safetensors(tmp_path / file, part) for file, part in halves.items())
    (tmp_path / "stray.safetensors").write_bytes(b"not of this model")
    weight_map = {name: file for file, part in halves.items() for name in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "config.json").write_text(json.dumps(workshop.llama_config))
    assert plain_bytes(catalog, at(catalog, tmp_path)) == data
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FormatError, match=r"model-00002-of-00002\.safetensors of the index is missing \(1 of 2"):
        at(catalog, tmp_path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/b.safetensors", "x.bin", 7])
def test_an_index_that_names_no_plain_file_is_refused(
    catalog: Catalog, workshop: Any, tmp_path: Path, name: object
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(workshop.llama_config))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(FormatError, match="no plain file name"):
        at(catalog, tmp_path)


def test_differences_between_config_and_files_are_settled_by_the_files(
    catalog: Catalog, workshop: Any, tmp_path: Path
) -> None:
    resized = workshop.llama_tensors(vocab=104)
    data = workshop.folder(tmp_path / "resized", workshop.llama_config, resized)
    model = at(catalog, tmp_path / "resized")
    assert (model.vocab_size, plain_bytes(catalog, model)) == (104, data)
    assert "config.json says 96 tokens, the embedding holds 104" in model.assumptions[0]

    headless = {k: v for k, v in workshop.llama_tensors().items() if k != "lm_head.weight"}
    data = workshop.folder(tmp_path / "headless", workshop.llama_config, headless)
    model = at(catalog, tmp_path / "headless")
    assert model.tie_word_embeddings and plain_bytes(catalog, model) == data

    tied = {**workshop.llama_config, "tie_word_embeddings": True}
    data = workshop.folder(tmp_path / "twice", tied, workshop.llama_tensors())
    model = at(catalog, tmp_path / "twice")
    assert parameter_count(model) == data // 2
    assert plain_bytes(catalog, model) == data - 96 * 64 * 2
    assert "stored although it is tied" in model.assumptions[0]

    scored = {**workshop.llama_tensors(), "score.weight": ("BF16", (1, 64))}
    data = workshop.folder(tmp_path / "scored", workshop.llama_config, scored)
    assert plain_bytes(catalog, at(catalog, tmp_path / "scored")) == data

    halves = {k: ("F16", shape) for k, (_, shape) in workshop.llama_tensors().items()}
    workshop.folder(tmp_path / "half", workshop.llama_config, halves)
    model = at(catalog, tmp_path / "half")
    assert (model.dtype, model.quantization) == ("fp16", "fp16")


def test_an_incomplete_download_is_an_error(catalog: Catalog, workshop: Any, tmp_path: Path) -> None:
    workshop.folder(tmp_path / "m", workshop.llama_config, workshop.llama_tensors(layers=1))
    with pytest.raises(FormatError, match="no tensors of layer 1 of 2"):
        at(catalog, tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    with file.open("r+b") as handle:
        handle.truncate(file.stat().st_size - 1)
    with pytest.raises(FormatError, match=r"model\.safetensors: .*truncated"):
        at(catalog, tmp_path / "m")


# -- quantized ------------------------------------------------------------------------------------


def _quantized(tensors: dict[str, Any], change: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, (dtype, shape) in tensors.items():
        if "_proj.weight" in name:
            out |= change(name.removesuffix(".weight"), *shape)
        else:
            out[name] = (dtype, shape)
    return out


def _awq(stem: str, rows: int, cols: int) -> dict[str, Any]:
    return {f"{stem}.qweight": ("I32", (cols, rows // 8)), f"{stem}.qzeros": ("I32", (cols // 32, rows // 8)),
            f"{stem}.scales": ("F16", (cols // 32, rows))}  # fmt: skip


def _gptq(stem: str, rows: int, cols: int) -> dict[str, Any]:
    return {f"{stem}.qweight": ("I32", (cols // 8, rows)), f"{stem}.qzeros": ("I32", (cols // 32, rows // 8)),
            f"{stem}.scales": ("F16", (cols // 32, rows)), f"{stem}.g_idx": ("I32", (cols,))}  # fmt: skip


def _fp8(stem: str, rows: int, cols: int) -> dict[str, Any]:
    scales = (-(-rows // 128), -(-cols // 128))
    return {f"{stem}.weight": ("F8_E4M3", (rows, cols)), f"{stem}.weight_scale_inv": ("F32", scales)}


QUANTIZED = {
    "awq": (_awq, {"quant_method": "awq", "bits": 4, "group_size": 32}),
    "gptq-int4": (_gptq, {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True}),
    "fp8-block": (_fp8, {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}),
}


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("format", QUANTIZED)
def test_quantized_folders_match_their_files(
    catalog: Catalog, workshop: Any, tmp_path: Path, format: str, known: bool
) -> None:
    change, table = QUANTIZED[format]
    tensors = _quantized(workshop.llama_tensors(), change)
    config = {**workshop.llama_config, "quantization_config": table}
    if not known:
        config["model_type"] = "novel"
    data = workshop.folder(tmp_path / "q", config, tensors)
    model = at(catalog, tmp_path / "q")
    assert model.quantization == format
    assert plain_bytes(catalog, model) == data
    stored = model.checkpoints[0].stored
    assert stored is not None and stored.total == data


def test_an_mlx_folder_names_its_bits_and_group(catalog: Catalog, workshop: Any, tmp_path: Path) -> None:
    tensors: dict[str, Any] = {}
    for name, (_, shape) in workshop.llama_tensors().items():
        stem = name.removesuffix(".weight")
        if len(shape) == 2:
            tensors[name] = ("U32", (shape[0], shape[1] // 8))
            tensors[f"{stem}.scales"] = tensors[f"{stem}.biases"] = ("BF16", (shape[0], shape[1] // 64))
        else:
            tensors[name] = ("BF16", shape)
    table = {"group_size": 64, "bits": 4}
    config = {**workshop.llama_config, "quantization": table, "quantization_config": table}
    data = workshop.folder(tmp_path / "mlx", config, tensors)
    model = at(catalog, tmp_path / "mlx")
    assert (model.quantization, model.quantization_group_size) == ("mlx-int4", 64)
    assert model.also_quantized == ("output", "token_embd")
    stored = model.checkpoints[0].stored
    assert stored is not None and stored.total == data
    assert plain_bytes(catalog, model) == data
    with pytest.raises(
        InfeasibleError, match="run by mlx-lm, which is not planned here: name the model they were made"
    ):
        planner.recommend(str(tmp_path / "mlx"), "1xM3-Max-64GB")


def test_an_mlx_folder_in_mxfp4_has_scales_of_a_byte(catalog: Catalog, workshop: Any, tmp_path: Path) -> None:
    tensors: dict[str, Any] = {}
    for name, (_, shape) in workshop.llama_tensors().items():
        if len(shape) == 2:
            tensors[name] = ("U32", (shape[0], shape[1] // 8))
            tensors[f"{name.removesuffix('.weight')}.scales"] = ("U8", (shape[0], shape[1] // 32))
        else:
            tensors[name] = ("BF16", shape)
    table = {"group_size": 32, "bits": 4, "mode": "mxfp4"}
    data = workshop.folder(tmp_path / "mlx", {**workshop.llama_config, "quantization": table}, tensors)
    model = at(catalog, tmp_path / "mlx")
    assert (model.quantization, plain_bytes(catalog, model)) == ("mxfp4", data)


def test_an_adapter_plans_its_base_and_says_so(catalog: Catalog, workshop: Any, tmp_path: Path) -> None:
    adapter = {"base_model_name_or_path": "meta-llama/Meta-Llama-3-8B-Instruct", "peft_type": "LORA", "r": 16}
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter))
    workshop.safetensors(tmp_path / "adapter_model.safetensors", {"a.lora_A.weight": ("BF16", (16, 64))})
    model = at(catalog, tmp_path)
    assert model.id == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert "LORA adapter of meta-llama/Meta-Llama-3-8B-Instruct, rank 16, 2,048 bytes" in model.assumptions[-1]


# -- hostile and wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated"),
        ((1 << 63).to_bytes(8, "little"), "at most"),
        ((2).to_bytes(8, "little") + b"[]", "not a JSON object"),
        ((60_000).to_bytes(8, "little") + b"[" * 60_000, "JSON"),
    ],
)
def test_a_hostile_header_is_one_clear_error(
    catalog: Catalog, workshop: Any, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(workshop.llama_config))
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(FormatError, match=message) as caught:
        at(catalog, tmp_path)
    assert "model.safetensors" in str(caught.value) and "\n" not in str(caught.value)


CROWDS: dict[str, tuple[bytes, str, int]] = {
    "a million tensors": (
        b'{"t":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' * 1_000_000, r"the header claims \d+ bytes", 16),
    "many tensors": (
        b'"t":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},' * 400_000, "more than 100000 tensors", 80),
    "many lists": (b'{"a":[' + b"[]," * 7_000_000, "more than 1048576 values", 80),
    "as many pairs as are read": (
        b'{"a":{' + b",".join(b'"%d":1' % i for i in range((1 << 20) - 4)) + b"}}", "needs exactly dtype", 300),
}  # fmt: skip
"""Header, what is said, most MiB that reading it takes."""


@pytest.mark.parametrize("name", CROWDS)
def test_a_crowded_header_is_refused_within_bounded_memory(
    catalog: Catalog, workshop: Any, tmp_path: Path, name: str
) -> None:
    raw, message, most_mib = CROWDS[name]
    (tmp_path / "config.json").write_text(json.dumps(workshop.llama_config))
    (tmp_path / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw)
    tracemalloc.start()
    with pytest.raises(FormatError, match=message):
        at(catalog, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most_mib << 20


@pytest.mark.parametrize("config", ["", "[]", "{" * 5000, '{"a": ' + "[" * 100_000])
def test_a_damaged_config_is_one_clear_error(catalog: Catalog, tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(FormatError, match=r"config\.json is not"):
        at(catalog, tmp_path)


@pytest.mark.parametrize("value", ["Infinity", "-Infinity", "NaN", "1e999", "64.5", "1e300"])
@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "max_position_embeddings"])
def test_a_size_that_is_no_whole_number_is_one_clear_error(
    catalog: Catalog, workshop: Any, tmp_path: Path, key: str, value: str
) -> None:
    workshop.folder(tmp_path / "m", workshop.llama_config, workshop.llama_tensors())
    text = json.dumps({**workshop.llama_config, key: "?"}).replace('"?"', value)
    (tmp_path / "m" / "config.json").write_text(text)
    with pytest.raises(FormatError, match=rf"config key {key} is [-\w.+]+, (?:not an integer|out of range)"):
        at(catalog, tmp_path / "m")


def test_tensors_that_no_layer_uses_are_named_beside_the_weights(
    catalog: Catalog, workshop: Any, tmp_path: Path
) -> None:
    from planner import api

    extra = {"model.probe.weight": ("BF16", (1000, 500))}
    plain = workshop.folder(tmp_path / "plain", workshop.llama_config, workshop.llama_tensors())
    assert workshop.folder(tmp_path / "more", workshop.llama_config, {**workshop.llama_tensors(), **extra}) > plain
    rows = []
    for name in ("plain", "more"):
        memory = api.recommend(model=str(tmp_path / name), gpus="1xL4", engine="vllm", input_tokens=64,
                               output_tokens=32, quantization="bf16").best.memory  # fmt: skip
        rows.append(next(row for row in memory.rows if row.item == "weights"))
    assert rows[0].bytes == rows[1].bytes and "other" not in rows[0].formula
    assert rows[1].formula == f"{rows[0].formula}; other: 1,000,000 B on disk, not loaded"


def test_what_is_no_model_is_refused_with_what_would_be(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no config\.json"):
        at(catalog, tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UsageError, match=r"is no model; give a \.gguf file"):
        at(catalog, tmp_path / "notes.txt")
    with pytest.raises(UsageError, match="does not exist"):
        at(catalog, tmp_path / "nothing")


def test_a_relative_path_is_kept_as_the_place_that_it_is(
    catalog: Catalog, workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan's files are saved and started elsewhere."""
    workshop.folder(tmp_path / "tuned", workshop.llama_config, workshop.llama_tensors())
    monkeypatch.chdir(tmp_path)
    for text in ("tuned", "./tuned"):
        model = resolve_model(catalog, text, offline=True)[0]
        assert model.id == model.checkpoints[0].repo == str(tmp_path / "tuned")
