"""The shipped smoke model in transformers: the same logits, and the same greedy text."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.engine.load import load
from planner.engine.smoke_model import FOLDER, golden_answers
from tests.oracle.test_logits import TOLERANCE, error, oracle_logits, our_logits

GOLDEN = golden_answers()


@pytest.mark.filterwarnings("ignore")
def test_logits_are_those_of_transformers() -> None:
    pytest.importorskip("torch", reason="the oracle needs torch")
    pytest.importorskip("transformers", reason="the oracle needs transformers")
    tokens = load(FOLDER).tokenizer.encode("user: What is the KV cache?\nassistant: The KV cache keeps the keys")
    assert error(our_logits(FOLDER, tokens), oracle_logits(FOLDER, tokens)) < TOLERANCE


@pytest.mark.filterwarnings("ignore")
def test_greedy_text_is_that_of_transformers() -> None:
    torch = pytest.importorskip("torch", reason="the oracle needs torch")
    transformers = pytest.importorskip("transformers", reason="the oracle needs transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    model = transformers.AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    for question, golden in list(GOLDEN.items())[:6]:
        messages = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        given = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            out = model.generate(given, do_sample=False, max_new_tokens=160, pad_token_id=0)
        assert tokenizer.decode(out[0][given.shape[1] :], skip_special_tokens=True) == golden


@pytest.mark.parametrize("folder", [FOLDER, FOLDER / "awq"])
def test_the_tokenizer_is_ours_in_transformers(folder: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the oracle needs transformers")
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), load(folder).tokenizer
    for text in ("Hello!", "user: é € 😀\n\tassistant: ", "", "".join(map(chr, range(256)))):
        assert theirs(text)["input_ids"] == ours.encode(text)
        assert theirs.decode(ours.encode(text, special=False)) == text
