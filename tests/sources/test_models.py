"""What a model name may be, and what it means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.errors import FormatError, UnknownNameError, UsageError
from planner.sources.catalog import Catalog
from planner.sources.models import resolve_model

LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 256,
    "max_position_embeddings": 512, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("llama3-70b", "meta-llama/Meta-Llama-3-70B-Instruct"),
        ("llama3:70b", "meta-llama/Meta-Llama-3-70B-Instruct"),
        ("LLAMA3-70B", "meta-llama/Meta-Llama-3-70B-Instruct"),
        ("llama3.1:8b", "meta-llama/Llama-3.1-8B-Instruct"),
        ("meta-llama/Llama-3.1-70B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"),
    ],
)
def test_an_alias_means_one_checkpoint_and_says_which(name: str, identifier: str, catalog: Catalog) -> None:
    model, assumed = resolve_model(catalog, name)
    assert model.id == identifier
    assert (assumed is None) == (name == identifier)
    assert assumed is None or identifier in assumed


def test_an_alias_of_llama3_is_the_8k_model(catalog: Catalog) -> None:
    assert resolve_model(catalog, "llama3-70b")[0].context_length == 8192


@pytest.mark.parametrize("name", ["", " ", "$(id)", "a b", "a;b", "../x/../../etc", "'", "{{x}}", "a\nb", "-rf", "ü"])
def test_what_is_no_name_is_refused(name: str, catalog: Catalog) -> None:
    with pytest.raises(UsageError):
        resolve_model(catalog, name)


def test_an_unknown_name_suggests(catalog: Catalog) -> None:
    with pytest.raises(UnknownNameError, match="nearest"):
        resolve_model(catalog, "lama3-70b")


def test_a_directory_is_read_from_its_config(tmp_path: Path, catalog: Catalog) -> None:
    folder = tmp_path / "my-tune"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    model, _ = resolve_model(catalog, str(folder))
    assert model.n_layers == 2
    assert model.context_length == 512


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '{"model_type": 3}', '{"model_type": "nobody-knows"}'])
def test_a_damaged_config_is_a_clear_error(text: str, tmp_path: Path, catalog: Catalog) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises((FormatError, UsageError)) as caught:
        resolve_model(catalog, str(tmp_path))
    assert "\n" not in str(caught.value)
