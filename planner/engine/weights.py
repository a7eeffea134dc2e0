"""A checkpoint to float32 tensors by HF name: safetensors directories, plain or quantized. GGUF is `gguf_weights`.

Everything is dequantized once, here. Names and shapes are checked against the layout: a missing or surplus tensor
is an error that names it. Knows nothing of the forward pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from planner.engine.config import ModelConfig
from planner.engine.layout import expected_tensors
from planner.engine.packing import packing
from planner.errors import FormatError
from planner.formats.arrays import Floats, read_array
from planner.formats.quantized import apply_scale
from planner.formats.reader import FileReader
from planner.formats.safetensors import TensorInfo, read_header

Weights = dict[str, Floats]
SCALES_OF_ACTIVATIONS = re.compile(
    r"\.(input_scale|k_scale|v_scale|q_scale|k_proj\.output_scale|v_proj\.output_scale)$"
)
BUFFERS = re.compile(r"\.rotary_emb\.inv_freq$|\.masked_bias$")
MAX_JSON_BYTES = 32 << 20


class Source(Protocol):
    """A checkpoint: the logical tensors it holds and float32 values of each, in HF's shape."""

    def names(self) -> set[str]: ...

    def read(self, name: str) -> Floats: ...


def collect(source: Source, config: ModelConfig) -> Weights:
    """Every tensor of the layout from `source`. Raises FormatError for missing, surplus or misshapen ones."""
    expected = expected_tensors(config)
    present = source.names()
    if config.tied:
        present = present - {"lm_head.weight"}  # a second copy of the embedding, or none
    missing, surplus = sorted(expected.keys() - present), sorted(present - expected.keys())
    if missing or surplus:
        parts = [f"{label} {_some(names)}" for label, names in (("missing", missing), ("surplus", surplus)) if names]
        raise FormatError(f"the checkpoint does not match its config ({config.family}): " + "; ".join(parts))
    weights: Weights = {}
    for name, shape in expected.items():
        value = np.ascontiguousarray(source.read(name), dtype=np.float32)
        if value.shape != shape:
            raise FormatError(f"tensor {name} has shape {value.shape}, the config says {shape}")
        weights[name] = value
    return weights


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a local file of at most 32 MiB. Raises FormatError."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise FormatError(f"{path.name}: over {MAX_JSON_BYTES} bytes of JSON")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path.name}: cannot be read as JSON ({str(error)[:80]})") from None
    if not isinstance(value, dict):
        raise FormatError(f"{path.name}: not a JSON object")
    return value


class SafetensorsSource:
    """All `*.safetensors` of a directory (the index's files where there is an index), quantization undone."""

    def __init__(self, directory: Path, quantization: dict[str, Any] | None) -> None:
        self._readers: list[FileReader] = []
        self._tensors: dict[str, tuple[FileReader, TensorInfo]] = {}
        self._packing = packing(quantization, self._raw)
        self._block = _fp8_block(quantization)
        try:
            self._open(_shards(directory))
        except BaseException:
            self.close()
            raise

    def _open(self, paths: list[Path]) -> None:
        for path in paths:
            reader = FileReader(path)
            self._readers.append(reader)
            for name, info in read_header(reader).tensors.items():
                if name in self._tensors:
                    raise FormatError(f"tensor {name} is in two files")
                self._tensors[name] = (reader, info)

    def names(self) -> set[str]:
        parts = {part for name in self._packed() for part in self._parts_of(name)}
        scales = {
            n for n in self._tensors if re.search(r"\.weight_scale(_inv)?$", n) and _weight_of(n) in self._tensors
        }
        rest = {n for n in self._tensors.keys() - parts - scales if not SCALES_OF_ACTIVATIONS.search(n)}
        return {n for n in rest if not BUFFERS.search(n)} | {f"{name}.weight" for name in self._packed()}

    def read(self, name: str) -> Floats:
        if name in self._tensors:
            return self._plain(name)
        assert self._packing is not None
        return self._packing.read(name.removesuffix(".weight"))

    def close(self) -> None:
        for reader in self._readers:
            reader.close()

    def _plain(self, name: str) -> Floats:
        _, info = self._tensors[name]
        value = self._raw(name)
        scaled = value.dtype == np.int8 and name + "_scale" in self._tensors
        if value.dtype != np.float32 and not scaled:
            raise FormatError(f"tensor {name} holds {info.dtype}, not floating point numbers")
        weight = np.asarray(value, np.float32)
        for suffix in ("_scale", "_scale_inv"):
            if name + suffix in self._tensors:
                scale = np.asarray(self._raw(name + suffix), np.float32)
                return apply_scale(weight, scale, self._block if suffix == "_scale_inv" else None)
        if info.dtype.startswith("F8"):
            raise FormatError(f"tensor {name} is {info.dtype} and has no scale")
        return weight

    def _raw(self, name: str) -> npt.NDArray[Any]:
        if name not in self._tensors:
            raise FormatError(f"tensor {name} is missing")
        reader, info = self._tensors[name]
        return read_array(reader, info)

    def _packed(self) -> set[str]:
        """Modules whose weight lies packed in other tensors."""
        if self._packing is None:
            return set()
        mark = f".{self._packing.parts[0]}"
        return {n.removesuffix(mark) for n in self._tensors if n.endswith(mark)}

    def _parts_of(self, module: str) -> Iterable[str]:
        parts = self._packing.parts if self._packing else ()
        return (name for part in parts if (name := f"{module}.{part}") in self._tensors)


def _weight_of(scale: str) -> str:
    return scale.removesuffix("_inv").removesuffix("_scale")


def _shards(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        files = read_json(index).get("weight_map")
        if not isinstance(files, dict) or not all(isinstance(f, str) and Path(f).name == f for f in files.values()):
            raise FormatError(f"{index.name}: weight_map must map tensors to file names")
        paths = [directory / name for name in sorted(set(files.values()))]
    else:
        paths = sorted(directory.glob("*.safetensors"))
    if not paths:
        raise FormatError(f"{directory.name}: no .safetensors file")
    return paths


def _fp8_block(quantization: dict[str, Any] | None) -> tuple[int, int] | None:
    size = (quantization or {}).get("weight_block_size")
    return (int(size[0]), int(size[1])) if isinstance(size, list) and len(size) == 2 else None
