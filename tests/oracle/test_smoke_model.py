"""The shipped smoke model in transformers: the same logits, and the same greedy text."""

from __future__ import annotations

import numpy as np
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
    ours = load(FOLDER)
    model = transformers.AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    for question, golden in list(GOLDEN.items())[:6]:
        tokens = ours.tokenizer.encode(ours.template.render([{"role": "user", "content": question}]))
        with torch.no_grad():
            out = model.generate(torch.tensor([tokens]), do_sample=False, max_new_tokens=160, pad_token_id=0)
        told = [int(t) for t in np.asarray(out[0])[len(tokens) :] if int(t) < 256]
        assert bytes(told).decode() == golden
