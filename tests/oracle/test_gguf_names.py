"""GGUF tensor names: the `gguf` package's own map from HF names leads to tensors that we lead back."""

from __future__ import annotations

import re

import pytest

from planner.engine.gguf_config import ARCHITECTURES
from planner.engine.gguf_weights import GgufSource
from planner.engine.hf_config import from_hf
from planner.engine.layout import expected_tensors
from planner.formats.gguf import GgufHeader, GgufTensor
from planner.formats.reader import BytesReader
from tests.engine.checkpoints import CASES

gguf = pytest.importorskip("gguf", reason="the oracle needs the gguf package")
CHOSEN = {
    "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen2moe": "qwen2-moe", "qwen3moe": "qwen3-moe",
    "gemma2": "gemma2", "gemma3": "gemma3",
}  # fmt: skip


def test_every_architecture_has_a_case() -> None:
    assert CHOSEN.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize(("architecture", "case"), [*CHOSEN.items(), ("llama", "mixtral")])
def test_names_lead_back(architecture: str, case: str) -> None:
    config = from_hf(CASES[case] | {"mlp_only_layers": []})  # GGUF has no dense layers among routed ones
    names = {value: key for key, value in gguf.MODEL_ARCH_NAMES.items()}
    table = gguf.get_tensor_name_map(names[architecture], len(config.layers))
    theirs: dict[str, None] = {}
    for name in expected_tensors(config):
        merged = re.sub(r"experts\.\d+\.", "experts.", name)
        found = table.get_name(merged, try_suffixes=(".weight", ".bias"))
        assert found is not None, f"the gguf package knows no name for {merged}"
        theirs[found] = None
    tensors = {n: GgufTensor(n, "F32", (1,), 0, 4) for n in theirs}
    source = GgufSource(BytesReader(b""), GgufHeader(3, {"general.architecture": architecture}, tensors), config)
    assert source.names() == expected_tensors(config).keys()
