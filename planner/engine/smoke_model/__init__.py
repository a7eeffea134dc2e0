"""The shipped smoke model: a Llama of 0.8M parameters over bytes, so that a smoke test answers with words.

Trained by us on text that we wrote (benchmarks/smoke_model: text, training and exports). FOLDER holds the
checkpoint in fp16; `awq` and `smoke-Q8_0.gguf` are exports for the loaders, answers.json its greedy answers.
"""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def golden_answers() -> dict[str, str]:
    """Question → the answer that the model gives at temperature 0."""
    found: dict[str, str] = json.loads((FOLDER / "answers.json").read_text(encoding="utf-8"))
    return found
