"""Checkpoints are read whole and exactly, in every format; what is missing, surplus or damaged is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.engine.load import load
from planner.engine.model import Model
from planner.errors import FormatError, UsageError
from planner.formats.arrays import to_float32
from tests.engine.checkpoints import LLAMA, prompt, random_weights, save_checkpoint, save_gguf, save_safetensors

WEIGHTS = random_weights(LLAMA)
LINEAR = "model.layers.0.mlp.gate_proj"


def bf16(value: np.ndarray) -> np.ndarray:
    return np.asarray((np.ascontiguousarray(value, np.float32).view(np.uint32) >> 16).astype(np.uint16))


def test_fp32_is_read_as_it_is(tmp_path: Path) -> None:
    loaded = load(save_checkpoint(tmp_path, LLAMA, WEIGHTS))
    assert all(np.array_equal(loaded.weights[name], value) for name, value in WEIGHTS.items())


def test_bf16_and_fp16_are_widened_exactly(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, LLAMA, {})
    stored = {n: bf16(v) if "mlp" in n else v.astype(np.float16) for n, v in WEIGHTS.items()}
    save_safetensors(tmp_path / "model.safetensors", stored, {n: "BF16" for n in stored if "mlp" in n})
    loaded = load(tmp_path).weights
    assert np.array_equal(bf16(loaded[LINEAR + ".weight"]), stored[LINEAR + ".weight"])
    assert np.array_equal(loaded["model.norm.weight"], stored["model.norm.weight"].astype(np.float32))


@pytest.mark.parametrize("suffix", ["weight_scale", "weight_scale_inv"])
def test_fp8_is_multiplied_by_its_scale(suffix: str, tmp_path: Path) -> None:
    block = suffix.endswith("inv")
    quantization: dict[str, Any] = {"quant_method": "fp8"} | ({"weight_block_size": [32, 16]} if block else {})
    save_checkpoint(tmp_path, LLAMA | {"quantization_config": quantization}, {})
    codes = np.random.default_rng(0).integers(0, 0x7E, WEIGHTS[LINEAR + ".weight"].shape, dtype=np.uint8)
    scale = np.full((3, 3), 0.25, np.float32) if block else np.array([0.25], np.float32)
    tensors = WEIGHTS | {LINEAR + ".weight": codes, f"{LINEAR}.{suffix}": scale, LINEAR + ".input_scale": scale}
    save_safetensors(tmp_path / "model.safetensors", tensors, {LINEAR + ".weight": "F8_E4M3"})
    expected = to_float32(codes.tobytes(), "F8_E4M3").reshape(codes.shape) * 0.25
    assert np.array_equal(load(tmp_path).weights[LINEAR + ".weight"], expected)


def test_fp8_without_scale_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, LLAMA, {})
    codes = np.zeros(WEIGHTS[LINEAR + ".weight"].shape, np.uint8)
    save_safetensors(
        tmp_path / "model.safetensors", WEIGHTS | {LINEAR + ".weight": codes}, {LINEAR + ".weight": "F8_E4M3"}
    )
    with pytest.raises(FormatError, match="has no scale"):
        load(tmp_path)


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_int4_modules_are_unpacked(method: str, tmp_path: Path) -> None:
    save_checkpoint(
        tmp_path, LLAMA | {"quantization_config": {"quant_method": method, "bits": 4, "group_size": 16}}, {}
    )
    out, rows = WEIGHTS[LINEAR + ".weight"].shape
    packed = {"awq": (rows, out // 8), "gptq": (rows // 8, out)}[method]
    parts: dict[str, np.ndarray] = {
        "qweight": np.full(packed, 0x33333333, np.int32),
        "qzeros": np.full((rows // 16, out // 8), 0x11111111, np.int32),
        "scales": np.full((rows // 16, out), 0.5, np.float16),
    }
    tensors = {n: v for n, v in WEIGHTS.items() if not n.startswith(LINEAR)} | {
        f"{LINEAR}.{n}": v for n, v in parts.items()
    }
    save_safetensors(tmp_path / "model.safetensors", tensors)
    zero = 1 if method == "awq" else 2
    assert np.array_equal(
        load(tmp_path).weights[LINEAR + ".weight"], np.full((out, rows), (3 - zero) * 0.5, np.float32)
    )


def test_other_quantizations_are_refused_by_name(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, LLAMA | {"quantization_config": {"quant_method": "bitsandbytes"}}, WEIGHTS)
    with pytest.raises(UsageError, match="bitsandbytes"):
        load(tmp_path)


def test_missing_and_surplus_tensors_are_named(tmp_path: Path) -> None:
    tensors = {n: v for n, v in WEIGHTS.items() if n != "model.norm.weight"} | {
        "model.extra": WEIGHTS["model.norm.weight"]
    }
    with pytest.raises(FormatError, match=r"missing model\.norm\.weight; surplus model\.extra"):
        load(save_checkpoint(tmp_path, LLAMA, tensors))


def test_a_wrong_shape_is_named(tmp_path: Path) -> None:
    tensors = WEIGHTS | {"model.norm.weight": np.zeros(47, np.float32)}
    with pytest.raises(FormatError, match=r"model\.norm\.weight has shape \(47,\), the config says \(48,\)"):
        load(save_checkpoint(tmp_path, LLAMA, tensors))


def test_a_truncated_file_is_a_format_error(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, LLAMA, WEIGHTS) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FormatError, match="truncated"):
        load(tmp_path)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_a_gguf_file_gives_the_logits_of_the_directory(kind: str, tmp_path: Path) -> None:
    rounded = {
        n: v if v.ndim == 1 or kind == "F32" else v.astype(np.float16).astype(np.float32) if kind == "F16"
        else to_float32(bf16(v).tobytes(), "BF16").reshape(v.shape)
        for n, v in WEIGHTS.items()
    }  # fmt: skip
    directory = load(save_checkpoint(tmp_path / "hf", LLAMA, rounded))
    file = load(save_gguf(tmp_path / "a.gguf", LLAMA, WEIGHTS, kind))
    assert all(np.array_equal(file.weights[n], v) for n, v in directory.weights.items())
    tokens = prompt(20)
    assert np.array_equal(
        Model(file.config, file.weights).logits(tokens), Model(directory.config, directory.weights).logits(tokens)
    )


def test_a_gguf_file_with_a_surplus_tensor_is_refused(tmp_path: Path) -> None:
    weights = WEIGHTS | {"model.layers.0.input_layernorm.weight": WEIGHTS["model.norm.weight"]}
    path = save_gguf(tmp_path / "a.gguf", LLAMA, weights)
    path.write_bytes(path.read_bytes().replace(b"blk.0.attn_norm.weight", b"blk.0.attn_nurm.weight"))
    with pytest.raises(
        FormatError, match=r"missing model\.layers\.0\.input_layernorm\.weight; surplus blk\.0\.attn_nurm"
    ):
        load(path)


def test_neither_directory_nor_gguf_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a directory"):
        load(tmp_path / "nothing")
