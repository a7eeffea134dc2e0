"""The shipped smoke model answers with words, the same in fp16 safetensors and GGUF, and sane ones when quantized."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.smoke_model.export import GROUP, answers, awq, gguf, tokenizer
from benchmarks.smoke_model.text import facts
from planner.engine.byte_vocabulary import byte_document
from planner.engine.load import load
from planner.engine.model import Model
from planner.engine.smoke_model import FOLDER, golden_answers
from planner.formats.quantize import GGUF_KINDS

GOLDEN = golden_answers()
EXACT = ("F32", "F16", "Q8_0")


def test_the_fp16_model_gives_the_golden_text() -> None:
    assert answers(load(FOLDER), tuple(GOLDEN)) == GOLDEN


def test_the_golden_text_is_what_the_model_was_taught() -> None:
    taught = dict(facts())
    assert {question: taught[question] for question in GOLDEN} == GOLDEN


def test_f16_gguf_has_the_weights_of_the_safetensors(tmp_path: Path) -> None:
    file, directory = load(gguf(tmp_path / "f16.gguf", "F16")), load(FOLDER)
    assert file.weights.keys() == directory.weights.keys()
    assert all(np.array_equal(file.weights[name], value) for name, value in directory.weights.items())
    assert replace(file.config, norm_eps=directory.config.norm_eps) == directory.config  # a GGUF float has 32 bits


@pytest.mark.parametrize("kind", [k for k in GGUF_KINDS if not k.endswith("_K")])  # K blocks are wider than the model
def test_every_gguf_type_gives_the_golden_text_or_nearly(kind: str, tmp_path: Path) -> None:
    asked = tuple(GOLDEN)[:5]
    found = answers(load(gguf(tmp_path / "smoke.gguf", kind)), asked)
    same = sum(found[question] == GOLDEN[question] for question in asked)
    assert same == len(asked) if kind in EXACT else same >= 3, found


@pytest.mark.parametrize("name", ["awq", "smoke-Q8_0.gguf"])
def test_the_shipped_exports_answer(name: str) -> None:
    found = answers(load(FOLDER / name), tuple(GOLDEN))
    assert sum(found[question] == answer for question, answer in GOLDEN.items()) >= len(GOLDEN) - 2, found


def test_the_shipped_exports_are_those_of_the_shipped_model(tmp_path: Path) -> None:
    awq(tmp_path / "awq")
    tokenizer(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()
    for name in ("config.json", "chat_template.jinja", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "awq" / name).read_bytes() == (FOLDER / "awq" / name).read_bytes()
    assert gguf(tmp_path / "q8.gguf", "Q8_0").read_bytes() == (FOLDER / "smoke-Q8_0.gguf").read_bytes()


@pytest.mark.parametrize("name", ["", "awq", "smoke-Q8_0.gguf"])
def test_its_bytes_are_read_without_the_tokenizers_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert load(FOLDER / name).tokenizer.encode("hé", special=False) == list("hé".encode())


def test_a_vocabulary_of_bytes_with_a_merge_is_not_read_as_bytes(tmp_path: Path) -> None:
    for file in FOLDER.glob("*.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    document = byte_document()
    document["model"] |= {"vocab": document["model"]["vocab"] | {"he": 258}, "merges": [["h", "e"]]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    pytest.importorskip("tokenizers", reason="the optional package reads real vocabularies")
    assert load(tmp_path).tokenizer.encode("he", special=False) == [258]


def test_awq_is_near_the_fp16_model() -> None:
    whole, packed = load(FOLDER), load(FOLDER / "awq")
    tokens = whole.tokenizer.encode("user: What is a token?\nassistant: ")
    name = "model.layers.0.mlp.gate_proj.weight"
    step = np.ptp(whole.weights[name].reshape(-1, GROUP), axis=1) / 15
    error = np.abs(packed.weights[name] - whole.weights[name]).reshape(-1, GROUP).max(axis=1)
    assert error.max() > 0 and (error <= 1.1 * np.maximum(step, np.abs(whole.weights[name]).max() / 15)).all()
    a, b = (Model(c.config, c.weights).logits(tokens) for c in (whole, packed))
    assert np.abs(a - b).max() < 0.5 * np.abs(a).max()


def test_it_is_small() -> None:
    parameters = sum(value.size for value in load(FOLDER).weights.values())
    assert 500_000 < parameters < 1_000_000
    assert (FOLDER / "model.safetensors").stat().st_size < 2_000_000
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file() and p.suffix != ".pyc") < 3_500_000
